"""The connection to NATS: acknowledged publishes, requests and direct reads, each with a deadline.

Uses one inbox for all replies, because a subscription per request costs more than the request.
Never retries and never decides: that is for those who know what a message means.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from nats.js.client import JetStreamContext

from penstock.contracts.errors import (
    InvalidMessage,
    PenstockError,
    Timeout,
    TooLarge,
    Unavailable,
)
from penstock.contracts.subjects import Subjects

log = logging.getLogger(__name__)

SWEEP_SECONDS = 0.25
PENDING_BYTES = 64 * 1024 * 1024
_NO_RESPONDERS = "503"
_ENDS_BATCH = ("204", "404")


class StreamError(PenstockError):
    """JetStream refused a request; `err_code` is the server's own number for why."""

    code, title, status = "stream-error", "The stream refused", 502

    @property
    def err_code(self) -> int:
        """The server's number, such as 10071 for a wrong last sequence."""
        return int(self.fields.get("err_code", 0))


class _ApiError(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class Ack(msgspec.Struct):
    """JetStream's word that a message is stored, and where."""

    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    error: _ApiError | None = None


class Stored(msgspec.Struct, frozen=True):
    """A message as it stands in a stream."""

    sequence: int
    subject: str
    data: bytes
    headers: Mapping[str, str]


_decode_ack = msgspec.json.Decoder(Ack).decode


class _One:
    """Waits for one reply."""

    __slots__ = ("deadline", "future")

    def __init__(self, deadline: float) -> None:
        self.future: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self.deadline = deadline

    def take(self, msg: Msg) -> bool:
        if not self.future.done():
            self.future.set_result(msg)
        return True


class _Many:
    """Waits for a batch of replies, which a status message ends."""

    __slots__ = ("deadline", "future", "got")

    def __init__(self, deadline: float) -> None:
        self.future: asyncio.Future[list[Msg]] = asyncio.get_running_loop().create_future()
        self.deadline = deadline
        self.got: list[Msg] = []

    def take(self, msg: Msg) -> bool:
        status = msg.headers.get("Status") if msg.headers else None
        if status is None:
            self.got.append(msg)
            return False
        if self.future.done():
            return True
        if status in _ENDS_BATCH:
            self.future.set_result(self.got)
        else:
            reason = (msg.headers or {}).get("Description", "")
            self.future.set_exception(_status_error(status, reason))
        return True


def _status_error(status: str, reason: str) -> PenstockError:
    if status == _NO_RESPONDERS:
        return Unavailable(
            "JetStream does not answer here; is the stream there and has it a leader?"
        )
    return StreamError(f"JetStream answered {status} {reason}.", err_code=int(status))


class Bus:
    """One NATS connection with the system's subjects. Made by `connect`, ended by `close`."""

    def __init__(self, nc: Client, subjects: Subjects, *, timeout: float = 10.0) -> None:
        self.nc = nc
        self.subjects = subjects
        self.timeout = timeout
        self.js: JetStreamContext = nc.jetstream(timeout=timeout)
        self._inbox = nc.new_inbox()
        self._skip = len(self._inbox) + 1
        self._keys = itertools.count()
        self._waiting: dict[str, _One | _Many] = {}
        self._sweeper: asyncio.Task[None] | None = None

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

        Once connected it reconnects for as long as it takes; calls made meanwhile time out.
        """
        options: dict[str, Any] = {"user_credentials": str(creds)} if creds else {}
        reached = asyncio.Event()
        try:
            nc = await asyncio.wait_for(
                nats.connect(
                    url.split(","),
                    name=name,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.1,
                    connect_timeout=min(2, timeout),
                    allow_reconnect=True,
                    pending_size=PENDING_BYTES,
                    error_cb=_report(reached),
                    disconnected_cb=_note("disconnected from NATS"),
                    reconnected_cb=_note("connected to NATS again"),
                    **options,
                ),
                timeout,
            )
        except (OSError, NatsError, TimeoutError) as error:
            raise Unavailable(
                f"No NATS server answers at {_without_secret(url)} ({type(error).__name__}); "
                "start one with `penstock up`, or correct PENSTOCK_NATS_URL."
            ) from error
        reached.set()
        bus = cls(nc, Subjects(prefix), timeout=timeout)
        await nc.subscribe(
            bus._inbox + ".*", cb=bus._on_reply, pending_msgs_limit=0, pending_bytes_limit=0
        )
        bus._sweeper = asyncio.create_task(bus._sweep(), name="bus-deadlines")
        return bus

    async def close(self) -> None:
        """Flush, close the connection and fail whatever still waits."""
        if self._sweeper:
            self._sweeper.cancel()
        try:
            if self.nc.is_connected:
                await self.nc.flush(timeout=2)
        except NatsError as error:
            log.warning("closing with unsent messages: %s", error)
        await self.nc.close()
        for waiter in self._waiting.values():
            if not waiter.future.done():
                waiter.future.set_exception(Unavailable("The connection was closed."))
        self._waiting.clear()

    async def __aenter__(self) -> Bus:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    # -- calls -------------------------------------------------------------------------------

    async def publish_acked(
        self,
        subject: str,
        body: bytes,
        headers: dict[str, str] | None = None,
        *,
        timeout: float | None = None,
    ) -> Ack:
        """Publish into a stream and wait until it is stored.

        Raises StreamError (`err_code`), TooLarge, Unavailable, or Timeout, after which the message
        may or may not be stored.
        """
        waiter = _One(self._deadline(timeout))
        await self._send(subject, body, headers, waiter)
        return ack_of(await waiter.future)

    async def request(
        self,
        subject: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        *,
        timeout: float | None = None,
    ) -> bytes:
        """Ask one responder over core NATS. Raises Unavailable if there is none, or Timeout."""
        waiter = _One(self._deadline(timeout))
        await self._send(subject, body, headers, waiter)
        msg = await waiter.future
        if msg.headers and msg.headers.get("Status") == _NO_RESPONDERS:
            raise Unavailable(f"Nobody answers on {subject}; is the service running?")
        return msg.data

    async def api(self, verb: str, body: Any = None, *, timeout: float | None = None) -> Any:
        """A raw JetStream API request. Raises StreamError with the server's `err_code`."""
        payload = msgspec.json.encode(body) if body is not None else b""
        reply = msgspec.json.decode(await self.request(f"$JS.API.{verb}", payload, timeout=timeout))
        if error := reply.get("error"):
            raise StreamError(
                f"JetStream refused {verb}: {error.get('description', 'no reason given')}.",
                err_code=error.get("err_code", 0),
            )
        return reply

    async def direct_get(
        self, stream: str, request: dict[str, Any], *, timeout: float | None = None
    ) -> list[Stored]:
        """Read messages by Direct Get: `{"last_by_subj": s}` or `{"seq": n, "next_by_subj": s,
        "batch": k}` or `{"multi_last": [...]}`. What is not there is an empty list.
        """
        waiter: _One | _Many
        many = "batch" in request or "multi_last" in request
        waiter = _Many(self._deadline(timeout)) if many else _One(self._deadline(timeout))
        body = msgspec.json.encode(request)
        await self._send(f"$JS.API.DIRECT.GET.{stream}", body, None, waiter)
        got = await waiter.future
        messages = got if isinstance(got, list) else _single(got)
        return [_stored(m) for m in messages]

    def follow_up(self, *, timeout: float | None = None) -> tuple[str, asyncio.Future[Msg]]:
        """A reply subject, and the future of the one message that will come there."""
        waiter = _One(self._deadline(timeout))
        return self._await(waiter), waiter.future

    # -- the inbox ---------------------------------------------------------------------------

    def _deadline(self, timeout: float | None) -> float:
        return asyncio.get_running_loop().time() + (self.timeout if timeout is None else timeout)

    def _await(self, waiter: _One | _Many) -> str:
        key = str(next(self._keys))
        self._waiting[key] = waiter
        waiting = self._waiting
        waiter.future.add_done_callback(lambda _: waiting.pop(key, None))
        return f"{self._inbox}.{key}"

    async def _send(
        self, subject: str, body: bytes, headers: dict[str, str] | None, waiter: _One | _Many
    ) -> None:
        try:
            await self.nc.publish(subject, body, reply=self._await(waiter), headers=headers)
        except MaxPayloadError as error:
            waiter.future.cancel()
            raise TooLarge(
                f"The message has {len(body)} bytes and the server takes {self.nc.max_payload}; "
                "put large content in the object store and pass its name."
            ) from error
        except NatsError as error:
            waiter.future.cancel()
            raise Unavailable(f"The message could not be sent: {type(error).__name__}.") from error

    async def _on_reply(self, msg: Msg) -> None:
        waiter = self._waiting.get(msg.subject[self._skip :])
        if waiter is not None:
            waiter.take(msg)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = loop.time()
            late = [w for w in self._waiting.values() if w.deadline < now]
            for waiter in late:
                if not waiter.future.done():
                    waiter.future.set_exception(
                        Timeout("No answer came in time; the server may be down or overloaded.")
                    )


def ack_of(msg: Msg) -> Ack:
    """The acknowledgement in a reply. Raises StreamError for a refusal, Unavailable for none."""
    if msg.headers and msg.headers.get("Status") == _NO_RESPONDERS:
        raise Unavailable(
            "No stream takes this subject; the system may not be provisioned yet: "
            "start it with `penstock up`."
        )
    try:
        ack = _decode_ack(msg.data)
    except msgspec.DecodeError as error:
        raise InvalidMessage("The server's acknowledgement is not JSON.") from error
    if ack.error is not None:
        raise StreamError(
            f"The stream refused the message: {ack.error.description}.",
            err_code=ack.error.err_code,
        )
    return ack


def _single(msg: Msg) -> list[Msg]:
    status = msg.headers.get("Status") if msg.headers else None
    if status is None:
        return [msg]
    if status in _ENDS_BATCH:
        return []
    raise _status_error(status, (msg.headers or {}).get("Description", ""))


def _stored(msg: Msg) -> Stored:
    headers = msg.headers or {}
    return Stored(int(headers["Nats-Sequence"]), headers["Nats-Subject"], msg.data, headers)


def _without_secret(url: str) -> str:
    return ",".join(part.rpartition("@")[2] or part for part in url.split(","))


def _report(reached: asyncio.Event) -> Callable[[Exception], Any]:
    async def report(error: Exception) -> None:
        if reached.is_set():
            log.warning("NATS: %s", str(error) or type(error).__name__)

    return report


def _note(text: str) -> Callable[[], Any]:
    async def note() -> None:
        log.info(text)

    return note
