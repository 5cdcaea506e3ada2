"""The one form of every stored message: a CloudEvents 1.0 event in structured JSON.

Never reads a clock and never makes an id: both arrive as data. What is inside is declared in the
registry, whose functions are found here as well.

Format: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec

from penstock.contracts.errors import InvalidMessage
from penstock.contracts.registry import MESSAGES, Registry

CONTENT_TYPE = "application/cloudevents+json"
Time = Annotated[datetime, msgspec.Meta(tz=True)]
"""A moment with its offset (RFC 3339): one without would mean another moment elsewhere."""


class Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A command or an event on its way and at rest.

    `subject` is the aggregate's id, `version` the event's position in its aggregate (1 is the
    first; 0 for a command). `correlationid` names the flow. `causationid` is the id of the command
    or event that caused this one; `causationtype` and `causationtime` are that message's type and
    time, and `causationcause` what caused that one in turn if it is a command, which no log keeps:
    so a flow can be told from events alone. `actor` is who asked for it.
    """

    specversion: Literal["1.0"]
    id: str
    source: str
    type: str
    subject: str
    time: Time
    data: msgspec.Raw
    correlationid: str
    causationid: str | None = None
    causationtype: str | None = None
    causationtime: Time | None = None
    causationcause: str | None = None
    actor: str | None = None
    version: int = 0
    traceparent: str | None = None


_encode = msgspec.json.Encoder().encode
_decode_envelope = msgspec.json.Decoder(Envelope).decode

command = MESSAGES.command
event = MESSAGES.event
upcast = MESSAGES.upcast
type_of = MESSAGES.type_of
messages = MESSAGES.messages
newest = MESSAGES.newest


def wrap(
    data: msgspec.Struct,
    *,
    id: str,
    subject: str,
    time: datetime,
    correlationid: str,
    cause: Envelope | None = None,
    causationid: str | None = None,
    causationtype: str | None = None,
    causationtime: datetime | None = None,
    actor: str | None = None,
    version: int = 0,
    traceparent: str | None = None,
    registry: Registry = MESSAGES,
) -> Envelope:
    """The envelope around `data`. `cause` fills the causation, or its fields are given.

    Raises TypeError unless the Struct is declared, and its newest version.
    """
    try:
        source, message_type = registry.written[type(data)]
    except KeyError:
        raise registry.unwritable(type(data)) from None
    return Envelope(
        specversion="1.0",
        id=id,
        source=source,
        type=message_type,
        subject=subject,
        time=time,
        data=msgspec.Raw(_encode(data)),
        correlationid=correlationid,
        causationid=cause.id if cause else causationid,
        causationtype=cause.type if cause else causationtype,
        causationtime=cause.time if cause else causationtime,
        causationcause=cause.causationid if cause and not cause.version else None,
        actor=actor,
        version=version,
        traceparent=traceparent,
    )


def encode(envelope: Envelope) -> bytes:
    """The bytes that go on the wire."""
    return _encode(envelope)


def decode(body: bytes) -> Envelope:
    """The envelope in `body`. Raises InvalidMessage, with the path of the wrong field."""
    try:
        return _decode_envelope(body)
    except msgspec.DecodeError as error:
        raise invalid(error, "The message") from error


def unwrap(envelope: Envelope, registry: Registry = MESSAGES) -> Any:
    """The data as the newest version of their Struct, whatever version they were written in.

    Raises InvalidMessage for an unknown type, a version newer than is known here, or a wrong field.
    """
    reader = registry.readers.get(envelope.type)
    if reader is None:
        raise registry.unknown(envelope.type)
    try:
        return reader(envelope.data)
    except msgspec.DecodeError as error:
        raise invalid(error, envelope.type, root="$.data") from error


_AT = re.compile(r" - at `\$(?P<path>[^`]*)`$")
_MISSING = re.compile(r"missing required field `(?P<name>[^`]+)`")


def invalid(error: msgspec.DecodeError, what: str, *, root: str = "$") -> InvalidMessage:
    """`error` as InvalidMessage with `path` (JSONPath of the wrong or missing field).

    msgspec gives the path only inside its sentence, so it is read from there.
    """
    text = str(error)
    at = _AT.search(text)
    path = root + (at["path"] if at else "")
    if missing := _MISSING.search(text):
        path += f".{missing['name']}"
    reason = _AT.sub("", text)
    return InvalidMessage(f"{what} is not valid at {path}: {reason}.", path=path)
