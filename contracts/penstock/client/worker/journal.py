"""Stores what happens to one job, each event behind the job's last one. Never decides anything."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from msgspec.structs import replace

from penstock.client.worker.decisions import Event
from penstock.contracts.envelope import Envelope, encode, wrap
from penstock.contracts.errors import Unavailable
from penstock.contracts.jobs import timer
from penstock.infra.event_log import JetStreamEventLog, Recorded
from penstock.infra.timers import Timers
from penstock.infra.tracing import traceparent


class Head(msgspec.Struct, frozen=True):
    """A job's last event: where it stands, and what it was."""

    sequence: int
    version: int
    id: str | None
    type: str | None
    time: datetime | None


def head_of(recorded: Recorded) -> Head:
    """`recorded` as the head of its job."""
    event = recorded.event
    return Head(recorded.sequence, event.version, event.id, event.type, event.time)


class Journal:
    """The events of the job that `work` is about, as one delivery of that item writes them.

    `delivery` names it: the same in every try and in no other delivery, so that after a lost reply
    it is known whose event was stored.
    """

    def __init__(
        self, log: JetStreamEventLog, timers: Timers, work: Envelope, delivery: str
    ) -> None:
        self._log = log
        self._timers = timers
        self._work = work
        self._delivery = delivery

    async def append(self, events: Sequence[Event], head: Head) -> Recorded:
        """Store events behind `head`; the last one. Raises Conflict if the job has moved on."""
        now, trace = datetime.now(UTC), traceparent() or self._work.traceparent
        envelopes = [
            self._envelope(data, head, head.version + position, now, trace)
            for position, data in enumerate(events, 1)
        ]
        appended = await self._log.append(envelopes, expected=head.sequence)
        return Recorded(appended.sequence, envelopes[-1])

    async def last(self, *, after: int) -> Recorded:
        """The job's last event, of those behind `after`. Raises Unavailable if none is seen."""
        loaded = await self._log.load(self._work.subject, after=after)
        if not loaded.events:
            raise Unavailable("The replica that was asked for the job's events lags behind.")
        return loaded.events[-1]

    async def wake_at(self, run_at: datetime, since: Recorded) -> None:
        """Set the timer of a job that waits since its event `since`."""
        message = timer(since.event, since.sequence)
        await self._timers.set(self._work.subject, run_at, encode(message))

    def _envelope(
        self, data: Event, head: Head, version: int, now: datetime, trace: str | None
    ) -> Envelope:
        envelope = wrap(
            data,
            id=f"{self._delivery}:{version}",
            subject=self._work.subject,
            time=now,
            correlationid=self._work.correlationid,
            actor=self._work.actor,
            version=version,
            traceparent=trace,
        )
        return replace(
            envelope, causationid=head.id, causationtype=head.type, causationtime=head.time
        )
