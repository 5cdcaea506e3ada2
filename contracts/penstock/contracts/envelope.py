"""The one form of every stored message: a CloudEvents 1.0 event in structured JSON.

Also holds the registry that joins a `type` to the Struct of its data. It never reads a clock and
never makes an id: both arrive as data.

Format: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal, TypeVar

import msgspec

from penstock.contracts.errors import InvalidMessage

CONTENT_TYPE = "application/cloudevents+json"
Kind = Literal["command", "event"]
S = TypeVar("S", bound=type[msgspec.Struct])


class Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A command or an event on its way and at rest.

    `subject` is the aggregate's id, `version` the event's position in its aggregate (1 is the
    first; 0 for a command). `correlationid` names the flow. `causationid` is the id of the command
    or event that caused this one; `causationtype` and `causationtime` are that message's type and
    time, so that a flow can be told from events alone. `actor` is who asked for it.
    """

    specversion: Literal["1.0"]
    id: str
    source: str
    type: str
    subject: str
    time: datetime
    data: msgspec.Raw
    correlationid: str
    causationid: str | None = None
    causationtype: str | None = None
    causationtime: datetime | None = None
    actor: str | None = None
    version: int = 0
    traceparent: str | None = None


class MessageType(msgspec.Struct, frozen=True):
    """Where a Struct stands in the contracts: `penstock.<service>.<name>.v<version>`."""

    kind: Kind
    service: str
    name: str
    version: int

    def __str__(self) -> str:
        return f"penstock.{self.service}.{self.name}.v{self.version}"


_encode = msgspec.json.Encoder().encode
_decode_envelope = msgspec.json.Decoder(Envelope).decode
_types: dict[type[msgspec.Struct], MessageType] = {}
_names: dict[type[msgspec.Struct], str] = {}
_decoders: dict[str, Callable[[bytes | msgspec.Raw], Any]] = {}
_structs: dict[str, type[msgspec.Struct]] = {}


def _register(kind: Kind, service: str, name: str, version: int) -> Callable[[S], S]:
    def add(struct: S) -> S:
        message_type = MessageType(kind, service, name, version)
        key = str(message_type)
        if key in _structs:
            raise ValueError(f"{key} is declared twice")
        _types[struct], _names[struct], _structs[key] = message_type, key, struct
        _decoders[key] = msgspec.json.Decoder(struct).decode
        return struct

    return add


def command(service: str, verb: str, *, version: int = 1) -> Callable[[S], S]:
    """Declare the Struct below as a command; `verb` is also the last token of its subject."""
    return _register("command", service, verb, version)


def event(service: str, name: str, *, version: int = 1) -> Callable[[S], S]:
    """Declare the Struct below as an event."""
    return _register("event", service, name, version)


def type_of(struct: type[msgspec.Struct]) -> MessageType:
    """The declared type of a message Struct. Raises KeyError for any other Struct."""
    return _types[struct]


def messages(service: str, kind: Kind) -> dict[str, type[msgspec.Struct]]:
    """Every declared message of one service: type string to Struct."""
    return {
        str(t): struct for struct, t in _types.items() if t.service == service and t.kind == kind
    }


def wrap(
    data: msgspec.Struct,
    *,
    id: str,
    subject: str,
    time: datetime,
    correlationid: str,
    cause: Envelope | None = None,
    causationid: str | None = None,
    actor: str | None = None,
    version: int = 0,
    traceparent: str | None = None,
) -> Envelope:
    """The envelope around `data`, whose Struct must be declared. `cause` fills the causation."""
    return Envelope(
        specversion="1.0",
        id=id,
        source=f"/penstock/{_types[type(data)].service}",
        type=_names[type(data)],
        subject=subject,
        time=time,
        data=msgspec.Raw(_encode(data)),
        correlationid=correlationid,
        causationid=cause.id if cause else causationid,
        causationtype=cause.type if cause else None,
        causationtime=cause.time if cause else None,
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


def unwrap(envelope: Envelope) -> Any:
    """The data as their Struct. Raises InvalidMessage for an unknown type or a wrong field."""
    decoder = _decoders.get(envelope.type)
    if decoder is None:
        raise InvalidMessage(
            f"Nothing here knows the type {envelope.type!r}; check its spelling and version.",
            path="$.type",
        )
    try:
        return decoder(envelope.data)
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
