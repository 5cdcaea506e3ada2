"""Takes the timers whose time has come: offers jobs to workers, and hands on those of other kinds.

Never changes a job: a timer that comes late finds that the job has moved on, and does nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from nats.aio.msg import Msg

from penstock.contracts.envelope import decode, unwrap
from penstock.contracts.errors import InvalidMessage, Unavailable
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import SERVICE, JobDue
from penstock.contracts.subjects import untoken
from penstock.infra.bus import Bus, StreamError
from penstock.infra.consuming.consumers import ACK, Delivery, delivery, lane_config, nak_after
from penstock.infra.consuming.durables import Durable
from penstock.infra.consuming.in_hand import TAKEOVER, InHand
from penstock.infra.consuming.lanes import Lane, Lanes
from penstock.infra.dead_letters.burying import bury_delivery
from penstock.infra.deciding.aggregate import Aggregate
from penstock.infra.deciding.decider import Load
from penstock.infra.timers import Timers
from penstock.jobs.dispatch import Dispatch
from penstock.jobs.expiry import SUFFIX

log = logging.getLogger(__name__)

DUE = "jobs-due"  # the consumer of due timers
AT_ONCE = 64
RETRY = 1.0  # seconds until it is tried again here
TRIES = 5  # deliveries of a timer that raises something unforeseen

OnDue = Callable[[str, JobDue], Awaitable[None]]


class DueJobs:
    """A part of the service; several instances share the due timers.

    `by_prefix` has who is told of the timers of other kinds of aggregates, by their ids' prefix.
    """

    def __init__(
        self,
        bus: Bus,
        load: Load[Any],
        dispatch: Dispatch,
        by_prefix: Mapping[str, OnDue] = {},
    ) -> None:
        self._bus = bus
        self._load = load
        self._dispatch = dispatch
        self._by_prefix = by_prefix
        self._timers = Timers(bus, SERVICE)
        self._in_hand = InHand(bus)
        self._tasks: set[asyncio.Task[None]] = set()
        self._lanes = Lanes(
            bus,
            bus.subjects.stream("sched"),
            [Lane(DUE, bus.subjects.dues(SERVICE))],
            capacity=AT_ONCE,
            ack_wait=TAKEOVER,
            take=self._take,
        )

    def durable(self) -> Durable:
        """The consumer on the server."""
        config = lane_config(DUE, self._bus.subjects.dues(SERVICE), TAKEOVER)
        return Durable(self._bus, self._bus.subjects.stream("sched"), config)

    async def start(self) -> None:
        """Begin to take due timers."""
        await self._lanes.start()

    async def stop(self) -> None:
        """Finish those in hand."""
        await self._lanes.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def problem(self) -> str | None:
        """See `Part.problem`."""
        found = self._lanes.problem()
        return f"its timers: {found}" if found else None

    async def _take(self, msg: Msg, _: Delivery) -> None:
        task = asyncio.create_task(self._handle(msg), name="job-due")
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._lanes.done()
        if not task.cancelled() and (error := task.exception()):
            log.error("a due job failed and comes again", exc_info=error)

    async def _handle(self, msg: Msg) -> None:
        with self._in_hand.holding(msg.reply):
            await self._settle(msg)

    async def _settle(self, msg: Msg) -> None:
        """Offer the job, remove the message, and only then acknowledge it."""
        try:
            await self._offer_or_bury(msg)
            await self._timers.taken(delivery(msg.reply).sequence)
            await self._bus.publish(msg.reply, ACK)
        except Exception as error:  # noqa: BLE001 - it comes again, and at last is a dead letter
            log.warning("a due job waits: %s: %s", type(error).__name__, error)
            await self._bus.publish(msg.reply, nak_after(RETRY))

    async def _offer_or_bury(self, msg: Msg) -> None:
        try:
            await self._hand_on(msg)
        except (Unavailable, StreamError):
            raise
        except Exception as error:
            of = delivery(msg.reply)
            if not isinstance(error, InvalidMessage) and of.count < TRIES:
                raise
            log.exception("the timer %s is given up", msg.subject)
            await bury_delivery(self._bus, SERVICE, msg, error, kind="timer")

    async def _hand_on(self, msg: Msg) -> None:
        message = decode(msg.data)
        id, due = message.subject, unwrap(message)
        kind, colon, _ = id.partition(":")
        if untoken(msg.subject.rpartition(".")[2]).endswith(SUFFIX):
            await self._dispatch.expiry.due(await self._loaded(id, due))
        else:
            await self._by_prefix.get(kind + colon, self._offer)(id, due)

    async def _offer(self, id: str, due: JobDue) -> None:
        """Offer the job of a due message if it still waits for it."""
        job = await self._loaded(id, due)
        if job.sequence == due.sequence and job.last and isinstance(job.state, JobState):
            await self._dispatch.admit(job)

    async def _loaded(self, id: str, due: JobDue) -> Aggregate[Any]:
        job = await self._load(id)
        if 0 < job.sequence < due.sequence:
            raise Unavailable("The replica that was asked for the job's events lags behind.")
        return job
