"""Events as they are told to those who ask, and the moment that they ask about. Never any I/O."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec

from penstock.contracts.answers import HistoryEntry
from penstock.contracts.errors import InvalidMessage
from penstock.infra.event_log import Recorded


def entry(service: str, record: Recorded) -> HistoryEntry:
    """An event as an explanation: what, to which aggregate, who, why, when."""
    event = record.event
    return HistoryEntry(
        sequence=record.sequence,
        service=service,
        subject=event.subject,
        version=event.version,
        id=event.id,
        type=event.type,
        time=event.time,
        data=msgspec.json.decode(event.data),
        correlationid=event.correlationid,
        causationid=event.causationid,
        causationtype=event.causationtype,
        causationtime=event.causationtime,
        causationcause=event.causationcause,
        actor=event.actor,
        traceparent=event.traceparent,
    )


def moment(at: str) -> int | datetime:
    """The stream sequence, or the time with its offset, that `at` says. Raises InvalidMessage."""
    if at.isdecimal():
        return int(at)
    try:
        time = datetime.fromisoformat(at)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise InvalidMessage(
            f"at={at!r} is neither a stream sequence nor a time such as 2026-01-31T09:30:00Z.",
            path="$.at",
        )
    return time


def happened_by(at: str) -> Callable[[Recorded], bool]:
    """Whether a record had happened at `at`; see `moment`. Raises InvalidMessage."""
    until = moment(at)
    if isinstance(until, int):
        return lambda record: record.sequence <= until
    return lambda record: record.event.time <= until
