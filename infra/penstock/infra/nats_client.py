"""nats-py's client with cheaper ways to write and to read messages, and one that ends when closed.

Callers see no other difference.

The library looks at every character of every header, which was a third of what it costs to send or
to receive an event, and hands each message to a task of its subscription. Whatever is not a message
in the usual form is left to the library.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import lru_cache

from nats import errors
from nats.aio.client import Client, Srv
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from penstock.infra.nats_parser import MessageParser, header_lines

Take = Callable[[Msg], Awaitable[None]]
Message = tuple[str, bytes, Mapping[str, str]]

_IN_SUBJECT = re.compile(r"[!-~]+").fullmatch
_IN_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch


class NatsClient(Client):
    """Takes the place of the library's `Client`."""

    def __init__(self) -> None:
        super().__init__()
        self.takers: dict[int, Take] = {}
        self.is_given_up = False  # nobody waits any more for it to connect
        self._ps = MessageParser(self)

    @property
    def is_clustered(self) -> bool:
        """Whether the server that it is connected to is one of several."""
        return bool(self._server_info.get("cluster"))

    @property
    def server_id(self) -> str:
        """Of the server that it is connected to, another one after each start; empty if that is
        not the one that keeps the streams.
        """
        info = self._server_info
        return str(info["server_id"]) if info.get("jetstream") else ""

    async def publish(
        self,
        subject: str,
        payload: bytes = b"",
        reply: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """See the library's."""
        written = frame(subject, payload, headers, reply)
        if written is None:
            await super().publish(subject, payload, reply, dict(headers) if headers else None)
        else:
            await self.publish_frames((written,), len(payload))

    async def publish_frames(self, frames: Sequence[bytes], largest: int) -> None:
        """Send what `frame` made, all of them in one write; `largest` is their largest body.

        Raises as the library's `publish` does: while disconnected they are kept, if all fit.
        """
        size = sum(map(len, frames))
        self._refuse(size, largest)
        self._pending += frames
        self._pending_data_size += size
        self.stats["out_msgs"] += len(frames)
        self.stats["out_bytes"] += size
        if 0 < self._max_pending_size < self._pending_data_size:
            await self._flush_pending(force_flush=True)
        elif self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    def _refuse(self, size: int, largest: int) -> None:
        if self.is_closed:
            raise errors.ConnectionClosedError
        if self.is_draining_pubs:
            raise errors.ConnectionDrainingError
        if not self.is_connected and size + self._pending_data_size > self._max_pending_size:
            raise errors.OutboundBufferLimitError
        if largest > self._max_payload:
            raise errors.MaxPayloadError

    async def receive(self, subject: str, take: Take) -> Subscription:
        """Subscribe with a callback that is run where messages are read, in no task of its own.

        So it must not wait for anything that is to be received, and what it does takes no time.
        """
        subscription = await self.subscribe(
            subject, cb=take, pending_msgs_limit=0, pending_bytes_limit=0
        )
        self.takers[subscription._id] = take
        return subscription

    async def failed(self, error: Exception) -> None:
        """A callback of `receive` raised."""
        await self._error_cb(error)

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        super()._remove_sub(sid, max_msgs)
        self.takers.pop(sid, None)

    async def _connect_to_server(self, s: Srv) -> None:
        """As the library does, but not once it was closed.

        Until Python 3.12 `wait_for` can lose the cancellation by which `close` ends an attempt to
        reconnect; the library would then try for ever, and no event loop could end.
        """
        reconnecting = asyncio.current_task() is self._reconnection_task
        if self.is_given_up or (self.is_closed and reconnecting):
            raise asyncio.CancelledError
        await super()._connect_to_server(s)

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        """See `header_lines`."""
        return header_lines(raw.decode("utf-8", "replace"))


def frame(
    subject: str, body: bytes, headers: Mapping[str, str] | None = None, reply: str = ""
) -> bytes | None:
    """A message as it goes over the wire; None for what is unusual, and left to the library."""
    if _IN_SUBJECT(subject) is None or (reply and _IN_SUBJECT(reply) is None):
        return None
    to = f"{subject} {reply}" if reply else subject
    if headers is None:
        return b"PUB %b %d\r\n%b\r\n" % (to.encode(), len(body), body)
    lines = [f"{_header(name)}{value.strip()}\r\n" for name, value in headers.items()]
    text = "".join(lines)
    if text.count("\r") != len(lines) or text.count("\n") != len(lines) or "\0" in text:
        return None
    head = b"NATS/1.0\r\n%b\r\n" % text.encode()
    total = len(head) + len(body)
    return b"HPUB %b %d %d\r\n%b%b\r\n" % (to.encode(), len(head), total, head, body)


def numbered(messages: Sequence[Message], id: str, first: int) -> Iterator[Message]:
    """Messages with what makes them members of a batch, their places counted from `first`."""
    for place, (subject, body, headers) in enumerate(messages, first):
        member = {"Nats-Batch-Id": id, "Nats-Batch-Sequence": str(place)}
        yield subject, body, {**headers, **member}


def batch_frames(messages: Sequence[Message], id: str, first: int) -> list[bytes] | None:
    """What `numbered` gives as it goes over the wire; None if one of them is unusual.

    Written out, since this is most of what a batch costs its sender.
    """
    heads, lines = [], 0
    member = f"Nats-Batch-Id: {id}\r\nNats-Batch-Sequence: "
    for place, (subject, body, headers) in enumerate(messages, first):
        own = "".join([name + ": " + value + "\r\n" for name, value in headers.items()])
        text = f"NATS/1.0\r\n{own}{member}{place}\r\n\r\n"
        size = len(text)
        heads.append(f"HPUB {subject} {size} {size + len(body)}\r\n{text}")
        lines += len(headers) + 5
    # Looked at together: what is unusual in one of them shows in the whole.
    whole = "".join(heads)
    usual = whole.count("\n") == whole.count("\r") == lines and whole.isascii()
    if not (usual and all(_IN_SUBJECT(subject) for subject, _, _ in messages)):
        return None
    bodies = [body for _, body, _ in messages]
    return [b"%b%b\r\n" % (h.encode(), body) for h, body in zip(heads, bodies, strict=True)]


@lru_cache(maxsize=256)
def _header(name: str) -> str:
    """A header's line up to its value; what cannot be a header's name spoils the line."""
    # Not by an f-string: that shows the name of a member of an enumeration, not its text.
    return name + ": " if _IN_NAME(name) else "\0"
