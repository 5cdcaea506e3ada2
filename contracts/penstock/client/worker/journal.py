"""Writes what happens to one job, each event behind the job's last one. Never decides anything."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from penstock.client.worker.decisions import Event
from penstock.contracts.envelope import Envelope, encode, wrap
from penstock.contracts.errors import Unavailable
from penstock.contracts.jobs import JobCheckpointed, JobLogged, JobReady, timer
from penstock.infra.append_many import Append
from penstock.infra.event_log import JetStreamEventLog, Recorded
from penstock.infra.timers import Timers


class Head(msgspec.Struct, frozen=True, gc=False):
    """A job's last event: where it stands, and what it was."""

    sequence: int
    version: int
    id: str | None
    type: str | None
    time: datetime | None


def head_of(sequence: int, event: Envelope) -> Head:
    """`event`, stored at `sequence`, as the head of its job."""
    return Head(sequence, event.version, event.id, event.type, event.time)


class Journal:
    """The events of the job that `work` is about, as one delivery of that item writes them.

    `delivery` names it: the same in every try and in no other delivery, so that after a lost reply
    it is known whose event was stored. `head` is the job's last event as far as is known here, and
    `last` its envelope once one was written here.
    """

    __slots__ = ("_delivery", "_log", "_subject", "_timers", "_work", "head", "last", "trace")

    def __init__(
        self,
        log: JetStreamEventLog,
        timers: Timers,
        work: Envelope,
        ready: JobReady,
        delivery: str,
    ) -> None:
        self._log = log
        self._timers = timers
        self._work = work
        self._delivery = delivery
        self._subject = log.bus.subjects.event(log.service, work.subject)
        self.trace = work.traceparent
        self.last: Envelope | None = None
        self.head = Head(
            ready.sequence,
            work.version,
            work.causationid,
            work.causationtype,
            work.causationtime,
        )

    def next(self, data: Event, now: datetime, *, place: int = 1) -> Envelope:
        """The event that comes `place` places behind the head."""
        head, work = self.head, self._work
        version = head.version + place
        # What is noted amid an attempt has ids of its own: where it was stored unseen, an end of
        # the same version must not be taken for it.
        kind = ":noted" if isinstance(data, JobCheckpointed | JobLogged) else ""
        return wrap(
            data,
            id=f"{self._delivery}:{version}{kind}",
            subject=work.subject,
            time=now,
            correlationid=work.correlationid,
            causationid=head.id,
            causationtype=head.type,
            causationtime=head.time,
            actor=work.actor,
            version=version,
            traceparent=self.trace,
        )

    def append(self, event: Envelope) -> Append:
        """What stores `event` behind the head, for `append_many`."""
        return Append(self._subject, encode(event), self.head.sequence)

    def wrote(self, event: Envelope) -> bool:
        """Whether this delivery wrote `event`."""
        return event.id.startswith(f"{self._delivery}:")

    def stored(self, event: Envelope, sequence: int) -> None:
        """`event` is stored at `sequence`: it is the head now."""
        self.last = event
        self.head = head_of(sequence, event)

    async def store(self, events: Sequence[Event]) -> None:
        """Store events behind the head. Raises Conflict if the job has moved on, or Unavailable."""
        now = datetime.now(UTC)
        envelopes = [self.next(data, now, place=place) for place, data in enumerate(events, 1)]
        appended = await self._log.append(envelopes, expected=self.head.sequence)
        self.stored(envelopes[-1], appended.sequence)

    async def since(self, sequence: int) -> Sequence[Recorded]:
        """The job's events behind `sequence`; the last of them is the head from now on."""
        found = (await self._log.load(self._work.subject, after=sequence)).events
        if found:
            self.stored(found[-1].event, found[-1].sequence)
        elif self.head.sequence > sequence:
            raise Unavailable("The replica that was asked for the job's events lags behind.")
        return found

    async def wake_at(self, run_at: datetime) -> None:
        """Set the timer of the job, which waits since its last event."""
        assert self.last is not None
        message = timer(self.last, self.head.sequence)
        await self._timers.set(self._work.subject, run_at, encode(message))
