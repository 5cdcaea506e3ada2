"""A work item in hand: what is known of its job, and what is stored when it begins and ends.

Every event is fenced by the job's last sequence, so that of two workers only one gets on. Never
runs a handler, and never decides what becomes of the job.
"""

from __future__ import annotations

import asyncio
import logging
import random
from datetime import UTC, datetime
from typing import Literal

from penstock.client.worker.context import JobContext
from penstock.client.worker.decisions import End
from penstock.client.worker.handlers import Handler
from penstock.client.worker.journal import Journal
from penstock.client.worker.station import Station
from penstock.contracts.envelope import Envelope
from penstock.contracts.errors import Conflict, LeaseLost, Unavailable
from penstock.contracts.jobs import JobReady, JobReleased, JobRetrying, JobSnoozed, JobStarted
from penstock.infra.append_many import Append as Stored
from penstock.infra.consuming.consumers import ACK, NAK, Delivery

log = logging.getLogger(__name__)

RETRY = 0.2  # seconds until something is stored again while the server is away
Stop = Literal["lost", "shutdown", "timeout"]


class Holding:
    """`work` is the item's envelope around `ready`; `reply` acknowledges it.

    `sequence` is that of the job's last event that was written here, 0 before the start, and
    `started` that of the start; `event` is the one that is stored or to be stored next.
    `is_writing` while another may be on its way. `stopped` says why the handler is to end. `item`
    is the sequence of the work item. `crashes`, `checkpoint` and `has_progress` are the job's,
    with what earlier holders of the item left.
    """

    __slots__ = (
        "attempt",
        "checkpoint",
        "context",
        "crashes",
        "deadline",
        "event",
        "handler",
        "has_progress",
        "is_start_told",
        "is_writing",
        "item",
        "journal",
        "ready",
        "reply",
        "sequence",
        "started",
        "started_at",
        "station",
        "stopped",
        "work",
    )

    def __init__(
        self,
        station: Station,
        handler: Handler,
        work: Envelope,
        ready: JobReady,
        item: Delivery,
        reply: str,
    ) -> None:
        # By no count: a server that was killed counts the same deliveries once more. And short,
        # since it stands in two of each event's fields.
        this = f"{work.subject}:{random.getrandbits(64):x}"
        self.station = station
        self.handler = handler
        self.work = work
        self.ready = ready
        self.item = item.sequence
        self.event: Envelope | None = None
        self.checkpoint = ready.checkpoint
        self.crashes = ready.crashes
        self.has_progress = ready.progress
        self.context: JobContext | None = None
        self.deadline: datetime | None = None
        self.journal = Journal(station.log, station.timers, work, ready, this)
        self.reply = reply
        self.attempt = ready.attempt
        self.sequence = self.started = 0
        self.is_writing = self.is_start_told = False
        self.stopped: Stop | None = None
        self.started_at: datetime | None = None

    @property
    def id(self) -> str:
        """The job's."""
        return self.work.subject

    @property
    def name(self) -> str:
        """The job's, and its handler's."""
        return self.handler.name

    @property
    def on_loop(self) -> bool:
        """Whether the handler runs on the worker's event loop."""
        return self.handler.lane == "async"

    def told(self) -> Stop | None:
        """Why the handler is to end by now."""
        return self.stopped

    def now(self) -> datetime:
        """See `outcomes.Tried`."""
        return datetime.now(UTC)

    def jitter(self) -> float:
        """See `outcomes.Tried`."""
        return random.random()

    # -- beginning ---------------------------------------------------------------------------

    def begin(self, now: datetime) -> Stored:
        """What is stored if nothing happened to the job since the item was made."""
        started = JobStarted(attempt=self.attempt, worker=self.station.worker, item=self.item)
        self.event = self.journal.next(started, now)
        return self.journal.append(self.event)

    def begun(self, sequence: int) -> None:
        """The start is stored at `sequence`."""
        assert self.event is not None
        self.journal.stored(self.event, sequence)
        self.sequence = self.started = sequence
        self.started_at = self.event.time

    # -- ending ------------------------------------------------------------------------------

    def end(self, end: End, now: datetime) -> Stored:
        """What stores the end, behind the last event that was written here."""
        self.is_writing = True
        self.event = self.journal.next(end, now)
        return self.journal.append(self.event)

    def ended(self, sequence: int) -> None:
        """The end is stored at `sequence`."""
        assert self.event is not None
        self.journal.stored(self.event, sequence)

    async def end_slowly(self, end: End) -> None:
        """Store the end for as long as that takes: the work is done, and the fence is safe.

        Raises LeaseLost if the job has moved on.
        """
        while True:
            try:
                await self.journal.store((end,))
                return
            except Conflict as error:
                raise LeaseLost(
                    f"The outcome of job {self.id} is refused: it was cancelled, or another worker "
                    "took it over when this one's lease ran out."
                ) from error
            except Unavailable as error:
                log.warning("job %s ended and cannot say so yet: %s", self.id, error)
                await asyncio.sleep(RETRY)

    def has_sequel(self, end: End) -> bool:
        """Whether something has to follow the end before the item may be acknowledged."""
        waits = isinstance(end, JobRetrying | JobSnoozed)
        awaited = self.is_end_told or self.ready.workflow is not None
        return waits or awaited or self.has_progress

    @property
    def is_end_told(self) -> bool:
        """Whether others at its gates wait for what becomes of the job now."""
        ready = self.ready
        return ready.settle and not (ready.settle_at == "start" and self.is_start_told)

    def answer(self, end: End) -> bytes:
        """How the item is acknowledged."""
        return NAK if isinstance(end, JobReleased) else ACK
