"""What could not be decoded, decided or folded is kept here with its reason. Never dropped."""

from __future__ import annotations

import base64
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from penstock.contracts.errors import PenstockError, Problem
from penstock.infra.bus import Bus
from penstock.infra.telemetry import DEAD_LETTERS


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message that could not be handled: where it was, what it said, why it failed.

    `body` is the message as text, or in `body_base64` if it is not UTF-8.
    """

    service: str
    subject: str
    reason: Problem
    time: datetime
    sequence: int = 0
    headers: dict[str, str] = {}
    body: str | None = None
    body_base64: str | None = None
    trace: str | None = None


async def bury(
    bus: Bus,
    service: str,
    *,
    subject: str,
    body: bytes,
    error: Exception,
    sequence: int = 0,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Store a dead letter. Raises Unavailable if it cannot be stored: keep the message then."""
    text, binary = _body(body)
    expected = isinstance(error, PenstockError)
    letter = DeadLetter(
        service=service,
        subject=subject,
        reason=(error if isinstance(error, PenstockError) else _unexpected(error)).problem(),
        time=datetime.now(UTC),
        sequence=sequence,
        headers=dict(headers or {}),
        body=text,
        body_base64=binary,
        trace=None if expected else "".join(traceback.format_exception(error)),
    )
    await bus.publish_acked(bus.subjects.dead(service), msgspec.json.encode(letter))
    DEAD_LETTERS.labels(service, letter.reason.type).inc()


def _body(body: bytes) -> tuple[str | None, str | None]:
    try:
        return body.decode(), None
    except UnicodeDecodeError:
        return None, base64.b64encode(body).decode()


def _unexpected(error: Exception) -> PenstockError:
    return PenstockError(f"{type(error).__name__}: {error}")
