"""What goes over a socket, as bytes: events of the log as messages, messages as frames.

An event is encoded once for all its sockets: frames that a server sends are not masked
(https://www.rfc-editor.org/rfc/rfc6455#section-5.2). Never writes to a socket.
"""

from __future__ import annotations

import struct

import msgspec

from penstock.contracts import push
from penstock.contracts.envelope import Envelope
from penstock.contracts.lifecycle import Archived, Erased
from penstock.contracts.notifications import BroadcastSent, NotificationSent, NotificationsRead

FINAL_TEXT = 0x81

encode = msgspec.json.Encoder().encode


def text_frame(payload: bytes) -> bytes:
    """An unmasked, uncompressed text frame."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", FINAL_TEXT, size) + payload
    if size < 1 << 16:
        return struct.pack("!BBH", FINAL_TEXT, 126, size) + payload
    return struct.pack("!BBQ", FINAL_TEXT, 127, size) + payload


PING = text_frame(encode(push.Reply(ping=push.Empty())))


def event_message(
    channel: str,
    sequence: int,
    prev: int,
    envelope: Envelope,
    data: msgspec.Struct,
    *,
    replay: bool = False,
) -> bytes:
    """An event of the log as the message that a reader of `channel` gets."""
    match data:
        case NotificationSent() | BroadcastSent():
            event = push.Event(
                ch=channel,
                seq=sequence,
                prev=prev,
                id=data.id,
                type="notification",
                time=envelope.time,
                replay=replay,
                data=msgspec.Raw(encode(data.content)),
            )
        case NotificationsRead():
            event = push.Event(
                ch=channel,
                seq=sequence,
                prev=prev,
                id=envelope.id,
                type="read",
                time=envelope.time,
                replay=replay,
                data=msgspec.Raw(encode(data)),
            )
        case Erased() | Archived():
            event = push.Event(
                ch=channel,
                seq=sequence,
                prev=prev,
                id=envelope.id,
                type="erased" if isinstance(data, Erased) else "archived",
                time=envelope.time,
                replay=replay,
                data=msgspec.Raw(b"{}"),
            )
        case _:
            raise TypeError(f"not an event of notifications: {type(data).__name__}")
    return encode(push.Reply(ev=event))
