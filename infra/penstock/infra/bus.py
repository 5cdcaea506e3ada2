"""The connection to NATS: acknowledged publishes, requests and direct reads, each with a deadline.

Never retries and never decides: that is for those who know what a message means.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.client import JetStreamContext

from penstock.contracts.errors import PenstockError, TooLarge, Unavailable
from penstock.contracts.subjects import Subjects
from penstock.infra.inbox import ConnectionLost, Inbox
from penstock.infra.nats_client import Message, NatsClient, batch_frames, frame, numbered
from penstock.infra.replies import Ack, Stored, StreamError, ack_of, api_answer, content, stored

# What a caller of the bus gets and catches, so that it is found beside it.
__all__ = ["Ack", "Bus", "ConnectionLost", "Message", "Stored", "StreamError"]

log = logging.getLogger(__name__)


PENDING_BYTES = 64 * 1024 * 1024
# What headers may add to a body. The server counts them too, and cuts the connection of whoever
# exceeds its limit, where the client library looks at the body alone.
HEADER_BYTES = 4096
# What every connection of ours asks of the client library. It waits so long between two attempts
# to reach a server, and gives up one that has been as silent as this, frozen or cut off.
RECONNECT_WAIT = 0.1  # seconds
PING_INTERVAL, PINGS_UNANSWERED = 1, 2  # seconds, and how many


class Bus:
    """One NATS connection with the system's subjects. Made by `connect`, ended by `close`.

    `connections` counts how often it connected: another number than before means that what the
    server sent meanwhile, or was about to send, is lost. `listeners` are called when it connected
    again.
    """

    def __init__(self, nc: NatsClient, subjects: Subjects, *, timeout: float = 10.0) -> None:
        self.nc = nc
        self.subjects = subjects
        self.timeout = timeout
        self._opened = False
        self.listeners: set[Callable[[], object]] = set()
        self.js: JetStreamContext = nc.jetstream(timeout=timeout)
        self._inbox = Inbox(nc.new_inbox())
        self._sweeper: asyncio.Task[None] | None = None
        self._trouble: Exception | None = None

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        prefix: str = "penstock",
        name: str = "penstock",
        creds: Path | None = None,
        timeout: float = 10.0,
    ) -> Bus:
        """Connect to the server(s) at `url` (comma-separated). Raises Unavailable.

        Once connected it reconnects for as long as it takes. What is sent meanwhile waits for
        that; what was sent before and not yet answered fails with ConnectionLost.
        """
        bus = cls(NatsClient(), Subjects(prefix), timeout=timeout)
        try:
            await bus._connect_within(timeout, bus._connect(url, name, creds))
        except (OSError, NatsError, TimeoutError) as error:
            await bus.nc.close()
            reason = str(bus._trouble or "") or type(error).__name__
            raise Unavailable(
                f"No NATS server answers at {_without_secret(url)} ({reason}); "
                "start one with `penstock up`, or correct PENSTOCK_NATS_URL."
            ) from error
        await bus._open()
        return bus

    @property
    def connections(self) -> int:
        """How often it connected: known before anything comes over the new connection."""
        return 1 + self.nc.stats["reconnects"] if self._opened else 0

    async def close(self) -> None:
        """Flush, close the connection and fail whatever still waits."""
        if self._sweeper:
            self._sweeper.cancel()
        try:
            if self.nc.is_connected:
                await self.nc.flush(timeout=2)
        except NatsError as error:
            log.warning("closing with unsent messages: %s", error)
        try:
            await self.nc.close()
        except OSError as error:  # it tried to send them after all
            log.warning("closing with unsent messages: %s", error)
        self._inbox.close()

    async def __aenter__(self) -> Bus:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    # -- calls -------------------------------------------------------------------------------

    async def publish_acked(
        self,
        subject: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float | None = None,
    ) -> Ack:
        """Publish into a stream and wait until it is stored.

        Raises StreamError (`err_code`), TooLarge, Unavailable; or Timeout or ConnectionLost, after
        which the message may or may not be stored.
        """
        return ack_of((await self._ask(subject, body, headers, timeout))[0])

    async def publish_ahead(
        self,
        subject: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float | None = None,
    ) -> asyncio.Future[list[Msg]]:
        """Publish into a stream and go on: the future of the reply, which `ack_of` reads.

        Raises TooLarge or Unavailable; the future raises Timeout or ConnectionLost.
        """
        return await self._send(subject, body, headers, timeout)

    async def request(
        self,
        subject: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float | None = None,
    ) -> bytes:
        """Ask one responder over core NATS.

        Raises Unavailable if there is none, Timeout, or ConnectionLost.
        """
        return content((await self._ask(subject, body, headers, timeout))[0], subject)

    async def api(self, verb: str, body: Any = None, *, timeout: float | None = None) -> Any:
        """A raw JetStream API request. Raises StreamError with the server's `err_code`."""
        subject = f"$JS.API.{verb}"
        payload = msgspec.json.encode(body) if body is not None else b""
        replies = await self._ask(subject, payload, None, timeout)
        return api_answer(replies[0], verb)

    async def direct_get(
        self, stream: str, request: dict[str, Any], *, timeout: float | None = None
    ) -> list[Stored]:
        """Read messages by Direct Get: `{"last_by_subj": s}` or `{"seq": n, "next_by_subj": s,
        "batch": k}` or `{"multi_last": [...]}`. What is not there is an empty list.

        The server ends a batch early when it gets large: the last one's `pending` tells.
        """
        body = msgspec.json.encode(request)
        many = "batch" in request or "multi_last" in request
        subject = f"$JS.API.DIRECT.GET.{stream}"
        return stored(await self._ask(subject, body, None, timeout, many=many))

    def follow_up(self, *, timeout: float | None = None) -> tuple[str, asyncio.Future[list[Msg]]]:
        """A reply subject, and the future of the one message that will come there.

        It may come over another connection than this one, should that be lost.
        """
        return self._inbox.expect(self.timeout if timeout is None else timeout)

    async def _ask(
        self,
        subject: str,
        body: bytes,
        headers: Mapping[str, str] | None,
        timeout: float | None,
        *,
        many: bool = False,
    ) -> list[Msg]:
        return await (await self._send(subject, body, headers, timeout, many=many))

    async def _send(
        self,
        subject: str,
        body: bytes,
        headers: Mapping[str, str] | None,
        timeout: float | None,
        *,
        many: bool = False,
    ) -> asyncio.Future[list[Msg]]:
        timeout = self.timeout if timeout is None else timeout
        reply, future = self._inbox.expect(timeout, many=many, lost=True)
        try:
            await self.publish(subject, body, headers, reply=reply)
        except PenstockError:
            future.cancel()
            raise
        return future

    async def publish(
        self,
        subject: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        reply: str = "",
    ) -> None:
        """Send and wait for nothing. Raises TooLarge, or Unavailable if it cannot even be kept."""
        self.check_size(len(body))
        try:
            await self.nc.publish(subject, body, reply=reply, headers=headers)
        except NatsError as error:
            raise Unavailable(f"The message could not be sent: {type(error).__name__}.") from error

    async def publish_many(self, messages: Sequence[Message]) -> None:
        """As `publish` each of them, but in one write."""
        frames = [frame(subject, body, headers or None) for subject, body, headers in messages]
        usual = [written for written in frames if written is not None]
        await self._publish_frames(usual if len(usual) == len(frames) else None, messages)

    async def publish_members(self, messages: Sequence[Message], id: str, first: int) -> None:
        """As `publish_many`: members of the batch `id` from the place `first` on, but for the last
        one of all, which commits it.
        """
        frames = batch_frames(messages, id, first)
        members = messages if frames else list(numbered(messages, id, first))
        await self._publish_frames(frames, members)

    async def _publish_frames(
        self, frames: Sequence[bytes] | None, messages: Sequence[Message]
    ) -> None:
        largest = max((len(body) for _, body, _ in messages), default=0)
        self.check_size(largest)
        if frames is None:
            for message in messages:
                await self.publish(*message)
            return
        try:
            await self.nc.publish_frames(frames, largest)
        except NatsError as error:
            raise Unavailable(f"Messages could not be sent: {type(error).__name__}.") from error

    def check_size(self, bytes: int) -> None:
        """Raise TooLarge if a body of so many bytes is more than the server takes."""
        most = self.nc.max_payload - HEADER_BYTES
        if bytes > most:
            raise TooLarge(
                f"The message has {bytes} bytes and the server takes {most}; "
                "put large content in the object store and pass its name."
            )

    # -- the connection ----------------------------------------------------------------------

    async def _connect_within(self, timeout: float, connecting: Coroutine[Any, Any, None]) -> None:
        """Raise TimeoutError after `timeout` seconds.

        Not `wait_for`: the client library can lose a cancellation, and would be waited for.
        """
        task = asyncio.create_task(connecting, name="connect")
        try:
            await asyncio.wait({task}, timeout=timeout)
        finally:
            if not task.done():
                self.nc.is_given_up = True
                task.cancel()
        if not task.done():
            raise TimeoutError
        task.result()

    async def _connect(self, url: str, name: str, creds: Path | None) -> None:
        # The client declares seconds as int and takes fractions all the same.
        options: dict[str, Any] = {
            "reconnect_time_wait": RECONNECT_WAIT,
            "connect_timeout": min(2, self.timeout),
        }
        if creds:
            options["user_credentials"] = str(creds)
        elif login := login_of(url):
            options |= login
        await self.nc.connect(
            url.split(","),
            name=name,
            max_reconnect_attempts=-1,
            allow_reconnect=True,
            pending_size=PENDING_BYTES,
            ping_interval=PING_INTERVAL,
            max_outstanding_pings=PINGS_UNANSWERED,
            error_cb=self._report,
            disconnected_cb=self._disconnected,
            reconnected_cb=self._reconnected,
            **options,
        )

    async def _open(self) -> None:
        await self.nc.receive(self._inbox.subject, self._inbox.take)
        self._sweeper = asyncio.create_task(self._inbox.sweep(), name="bus-deadlines")
        self._opened = True

    async def _disconnected(self) -> None:
        log.info("disconnected from NATS")
        self._inbox.lose()

    async def _reconnected(self) -> None:
        log.info("connected to NATS again")
        for listener in tuple(self.listeners):
            listener()

    async def _report(self, error: Exception) -> None:
        # A refusal tells more than the closed connection behind it.
        if not (isinstance(self._trouble, NatsError) and isinstance(error, OSError)):
            self._trouble = error
        if self._opened:  # until then `connect` raises it
            log.warning("NATS: %s", str(error) or type(error).__name__)


def login_of(url: str) -> dict[str, str]:
    """User and password in `url`, for all servers: those that it names, and those they know of.

    Empty without them, or if they differ. A cluster tells its clients of servers without them.
    """
    parts = [urlsplit(part) for part in url.split(",")]
    logins = {(part.username, part.password) for part in parts}
    user, password = logins.pop()
    if logins or not user or not password:
        return {}
    return {"user": unquote(user), "password": unquote(password)}


def _without_secret(url: str) -> str:
    return ",".join(part.rpartition("@")[2] or part for part in url.split(","))
