"""What could not be decoded, decided or folded is kept here with its reason. Never dropped.

Each message has one letter, however often it is buried: the letter's subject tells the message's
place in its stream, and only the first one there is let in. Reading and redriving them is for
`dead_letter_office`.
"""

from __future__ import annotations

import base64
import logging
import traceback
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec.structs import replace
from nats.aio.msg import Msg

from penstock.contracts.dead import CUT, DeadLetter, Kind
from penstock.contracts.envelope import decode
from penstock.contracts.errors import (
    TYPE_PREFIX,
    InvalidMessage,
    PenstockError,
    Problem,
    TooLarge,
    Unavailable,
)
from penstock.contracts.subjects import EXPECTED, untoken
from penstock.infra.bus import Bus, StreamError
from penstock.infra.consuming.consumers import delivery
from penstock.infra.event_log import WRONG_LAST_SEQUENCE
from penstock.infra.telemetry import DEAD_LETTERS

__all__ = ["DeadLetter", "bury", "store"]

log = logging.getLogger(__name__)

# Reasons for which nothing of what the message said may be kept: it may be personal data.
BODILESS = frozenset({f"{TYPE_PREFIX}erased"})
TRACE = 16_000  # characters kept of a traceback, its end
_ID_IN_SUBJECT = ("event", "work", "timer")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(DeadLetter).decode


async def bury_delivery(
    bus: Bus, service: str, msg: Msg, error: Exception, *, kind: Kind, consumer: str = ""
) -> None:
    """`bury` a message as a consumer delivered it."""
    of = delivery(msg.reply)
    await bury(
        bus,
        service,
        kind=kind,
        subject=msg.subject,
        body=msg.data,
        error=error,
        sequence=of.sequence,
        deliveries=of.count,
        consumer=consumer,
        headers=msg.headers,
    )


async def bury(
    bus: Bus,
    service: str,
    *,
    kind: Kind,
    subject: str,
    body: bytes,
    error: Exception,
    sequence: int = 0,
    deliveries: int = 1,
    consumer: str = "",
    headers: Mapping[str, str] | None = None,
) -> None:
    """Store the dead letter of a message, if it has none yet.

    `consumer` tells apart those who each work off the same message. Raises Unavailable if it
    cannot be stored: keep the message then.
    """
    reason, trace = told(error)
    letter = DeadLetter(
        service=service,
        kind=kind,
        subject=subject,
        reason=reason,
        time=datetime.now(UTC),
        sequence=sequence,
        consumer=consumer,
        deliveries=deliveries,
        headers=dict(headers or {}),
        trace=trace,
    )
    await store(bus, letter, body)


def told(error: Exception) -> tuple[Problem, str | None]:
    """An error as a letter tells it, with its traceback if it is one that nobody foresaw."""
    if isinstance(error, PenstockError):
        return error.problem(), None
    unforeseen = PenstockError(f"{type(error).__name__}: {error}")
    return unforeseen.problem(), "".join(traceback.format_exception(error))[-TRACE:]


async def store(bus: Bus, letter: DeadLetter, body: bytes) -> None:
    """Store `letter` about a message with `body`, if there is none yet. Raises Unavailable."""
    letter = _identified(letter, body)
    letter, encoded = _fitting(bus, letter, body)
    try:
        await _publish(bus, letter, encoded)
    except StreamError as error:
        raise Unavailable(f"The dead letter cannot be stored: {error}") from error


async def _publish(bus: Bus, letter: DeadLetter, encoded: bytes) -> None:
    subject = bus.subjects.dead_letter(
        letter.service, letter.kind, letter.consumer, letter.sequence
    )
    try:
        first = {EXPECTED: "0"} if letter.sequence else None
        await bus.publish_acked(subject, encoded, first)
    except StreamError as error:
        if error.err_code not in WRONG_LAST_SEQUENCE:
            raise
        if await _is_there(bus, subject, letter):
            return
        # A stream was made anew and counts from 1 again: this is another message.
        await bus.publish_acked(subject, encoded)
    DEAD_LETTERS.labels(letter.service, letter.kind, letter.reason.type).inc()


async def _is_there(bus: Bus, subject: str, letter: DeadLetter) -> bool:
    found = await bus.direct_get(bus.subjects.stream("dead"), {"last_by_subj": subject})
    return any(_of_one_message(_decode(message.data), letter) for message in found)


def _of_one_message(one: DeadLetter, other: DeadLetter) -> bool:
    # By what identifies the message, else by the whole of it; a reason may have changed meanwhile.
    if one.message or other.message:
        return (one.subject, one.message, one.type) == (other.subject, other.message, other.type)
    return (one.subject, _bodies(one)) == (other.subject, _bodies(other))


def _bodies(letter: DeadLetter) -> tuple[object, ...]:
    return letter.body, letter.body_base64, letter.body_zlib, letter.cut


def _identified(letter: DeadLetter, body: bytes) -> DeadLetter:
    id = letter.subject.rpartition(".")[2] if letter.kind in _ID_IN_SUBJECT else ""
    try:
        envelope = decode(body)
    except InvalidMessage:
        return replace(letter, id=untoken(id))
    id = untoken(id) or envelope.subject
    return replace(letter, id=id, message=envelope.id, type=envelope.type)


# -- the body ----------------------------------------------------------------------------------


def _fitting(bus: Bus, letter: DeadLetter, body: bytes) -> tuple[DeadLetter, bytes]:
    """The letter with its body, in the first form that the server takes, and encoded."""
    if letter.reason.type in BODILESS:
        letter = replace(letter, headers={}, trace=None)
        return letter, _encode(letter)
    for form in (_plain, _compressed):
        whole = replace(letter, **form(body))
        encoded = _encode(whole)
        try:
            bus.check_size(len(encoded))
        except TooLarge:
            continue
        return whole, encoded
    log.error("%s: the body of %s does not fit into a letter", letter.service, letter.subject)
    part = replace(letter, **_plain(body[:CUT]), cut=max(1, len(body) - CUT))
    return part, _encode(part)


def _plain(body: bytes) -> dict[str, Any]:
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(body).decode()}


def _compressed(body: bytes) -> dict[str, Any]:
    return {"body_zlib": base64.b85encode(zlib.compress(body)).decode()}
