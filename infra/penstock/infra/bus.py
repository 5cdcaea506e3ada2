"""Messages to and from NATS: acknowledged publishes, requests and direct reads, with deadlines.

Never retries and never decides: that is for those who know what a message means. How it connects is
in `connection`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from penstock.contracts.errors import PenstockError, TooLarge, Unavailable
from penstock.infra.connection import Connection
from penstock.infra.inbox import Answered, ConnectionLost, IsLast, has_status
from penstock.infra.nats_frames import (
    Message,
    batch_frames,
    frame,
    ingest_reply,
    numbered,
    reply_frames,
)
from penstock.infra.replies import Ack, Stored, StreamError, ack_of, api_answer, content, stored

# What a caller of the bus gets and catches, so that it is found beside it.
__all__ = ["Ack", "Bus", "ConnectionLost", "Message", "Stored", "StreamError"]

# What headers may add to a body. The server counts them too, and cuts the connection of whoever
# exceeds its limit, where the client library looks at the body alone.
HEADER_BYTES = 4096


class Bus(Connection):
    """One connection, and all that goes over it. Made by `connect`, ended by `close`."""

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
        is_last = {"is_last": has_status} if many else {}
        reply, future = self._inbox.expect(timeout, lost=True, **is_last)
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

    async def publish_ingest(
        self, messages: Sequence[Message], id: str, is_last: IsLast, *, timeout: float
    ) -> Msg:
        """Send all messages of the fast ingest `id`; the reply that ends it.

        Raises TooLarge or Unavailable; Timeout or ConnectionLost, after which any may be stored.
        """
        inbox, future = self._inbox.expect(timeout, is_last=is_last, lost=True)
        reply, count = f"{inbox}.{id}.{len(messages)}.fail", len(messages)
        replies = [ingest_reply(reply, place, count) for place in range(1, count + 1)]
        try:
            await self._publish_frames(reply_frames(messages, replies), messages, replies)
        except PenstockError:
            future.cancel()
            raise
        return (await future)[-1]

    async def publish_each(
        self, messages: Sequence[Message], answered: Sequence[Answered], *, timeout: float
    ) -> None:
        """As `publish_many`, into a stream: each of `answered` is called with the reply to its
        message, which `ack_of` reads, or with Timeout or ConnectionLost.

        Raises TooLarge or Unavailable, and then calls none of them.
        """
        reply = self._inbox.expect_each(answered, timeout)
        replies = [f"{reply}{place}" for place in range(len(messages))]
        try:
            await self._publish_frames(reply_frames(messages, replies), messages, replies)
        except BaseException:
            self._inbox.forget(reply)
            raise

    async def _publish_frames(
        self,
        frames: Sequence[bytes] | None,
        messages: Sequence[Message],
        replies: Iterable[str] = repeat(""),
    ) -> None:
        largest = max((len(body) for _, body, _ in messages), default=0)
        self.check_size(largest)
        if frames is None:
            for (subject, body, headers), reply in zip(messages, replies, strict=False):
                await self.publish(subject, body, headers, reply=reply)
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
