"""Reads messages off the wire for `NatsClient`; all else that a server says is the library's.

A message goes at once to the callback that was subscribed by `receive`, or else the library's way.
Never writes.

Protocol: https://docs.nats.io/reference/reference-protocols/nats-protocol
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nats.aio.msg import Msg
from nats.errors import ProtocolError
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

if TYPE_CHECKING:
    from penstock.infra.nats_client import NatsClient

_END = b"\r\n"
_STATUS = len(b"NATS/1.0")  # where a header has a space if a status follows


class Received(Msg):
    """A message whose headers are read when somebody asks for them."""

    def __init__(
        self, client: NatsClient, sid: int, subject: str, reply: str, data: bytes, raw: bytes
    ) -> None:
        self._client = client
        self._sid = sid
        self.subject = subject
        self.reply = reply
        self.data = data
        self._raw = raw
        self._read: dict[str, str] | None = None

    @property
    def headers(self) -> dict[str, str] | None:  # type: ignore[override]
        """See the library's `Msg`."""
        if self._raw:
            self._read, self._raw = headers_of(self._raw), b""
        return self._read


class MessageParser(Parser):
    """Takes the place of the library's `Parser`."""

    def __init__(self, client: NatsClient) -> None:
        self._client = client
        super().__init__(client)

    def reset(self) -> None:
        """Begin anew, on another connection."""
        super().reset()
        self._wanted = 0  # bytes without which it is of no use to look again
        self._resets = getattr(self, "_resets", 0) + 1

    async def parse(self, data: bytes = b"") -> None:
        """Take all messages that are whole; the rest waits for what comes behind it."""
        self.buf.extend(data)
        if self.state != AWAITING_CONTROL_LINE:
            await super().parse()
            return
        if len(self.buf) < self._wanted:
            return
        whole, resets = bytes(self.buf), self._resets
        self.buf.clear()
        self._wanted = 0
        taken = await self._take_all(whole)
        if resets == self._resets:
            self.buf[:0] = whole[taken:]

    async def _take_all(self, whole: bytes) -> int:
        """How many bytes could be taken."""
        at, end, resets = 0, len(whole), self._resets
        while at < end and resets == self._resets:
            line_end = whole.find(_END, at)
            if line_end < 0:
                break
            fields = whole[at:line_end].split()
            start = line_end + 2
            if fields and fields[0] in (b"HMSG", b"MSG"):
                stop = start + _size(fields)
                if stop + 2 > end:
                    self._wanted = stop + 2 - at
                    break
                await self._take(fields, whole, start, stop)
                at = stop + 2
            else:
                self.buf.extend(whole[at:start])
                await super().parse()
                at = start
        return at

    async def _take(self, fields: list[bytes], whole: bytes, start: int, stop: int) -> None:
        """A message whose headers, if it has some, begin at `start`; it ends at `stop`."""
        client, sid = self._client, int(fields[2])
        body = start + int(fields[-2]) if fields[0] == b"HMSG" else start
        reply = fields[3] if len(fields) > (4 if body == start else 5) else b""
        take = client.takers.get(sid)
        if take is None:
            raw: Any = whole[start:body] or None
            await client._process_msg(sid, fields[1], reply, whole[body:stop], raw)
            return
        client.stats["in_msgs"] += 1
        client.stats["in_bytes"] += stop - body
        msg = Received(
            client, sid, fields[1].decode(), reply.decode(), whole[body:stop], whole[start:body]
        )
        try:
            await take(msg)
        except Exception as error:  # noqa: BLE001 - told as the library tells it
            await client.failed(error)


def _size(fields: list[bytes]) -> int:
    try:
        return int(fields[-1])
    except ValueError as error:
        raise ProtocolError from error


def headers_of(raw: bytes) -> dict[str, str] | None:
    """The headers of a message, with a status and its description as headers; None for none."""
    first, _, rest = raw.decode("utf-8", "replace").partition("\r\n")
    headers: dict[str, str] = {}
    status, _, description = first[_STATUS + 1 :].partition(" ")
    if status.isdigit():
        headers["Status"] = status
    if description:
        headers["Description"] = description
    return headers | header_lines(rest) or None


def header_lines(text: str) -> dict[str, str]:
    """The headers in the lines behind the first one; what has no colon is left out."""
    headers: dict[str, str] = {}
    for line in text.split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip()] = value.strip()
    return headers
