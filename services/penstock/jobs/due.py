"""Takes the timers whose time has come: offers jobs to workers, and hands on those of other kinds.

Never changes a job: a timer that comes late finds that the job has moved on, and does nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from nats.aio.msg import Msg

from penstock.contracts.envelope import decode, unwrap
from penstock.contracts.errors import InvalidMessage, Unavailable
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import SERVICE, JobDue
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
from penstock.jobs.due_together import DueTogether, is_expiry

log = logging.getLogger(__name__)

DUE = "jobs-due"  # the consumer of due timers
GROUP = 256  # due messages that are handled together
GROUPS = 2  # at a time; as many wait, so that the server is not waited for
ONE_BY_ONE = 64  # those that go each by itself, at a time
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
        together: DueTogether,
        by_prefix: Mapping[str, OnDue] = {},
    ) -> None:
        self._bus = bus
        self._load = load
        self._dispatch = dispatch
        self._by_prefix = by_prefix
        self._timers = Timers(bus, SERVICE)
        self._together = together
        self._in_hand = InHand(bus)
        self._arrived: deque[Msg] = deque()
        self._is_due = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(ONE_BY_ONE)
        self._lanes = Lanes(
            bus,
            bus.subjects.stream("sched"),
            [Lane(DUE, bus.subjects.dues(SERVICE))],
            capacity=GROUPS * 2 * GROUP,
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
        while self._tasks:  # each begins with the next when it has ended
            await asyncio.wait(tuple(self._tasks))

    def problem(self) -> str | None:
        """See `Part.problem`."""
        found = self._lanes.problem()
        return f"its timers: {found}" if found else None

    async def _take(self, msg: Msg, _: Delivery) -> None:
        self._arrived.append(msg)
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        """Those that came in this round of the loop go together, and those that come meanwhile."""
        self._is_due = False
        while self._arrived and len(self._tasks) < GROUPS:
            count = min(len(self._arrived), GROUP)
            group = [self._arrived.popleft() for _ in range(count)]
            task = asyncio.create_task(self._handle(group), name="jobs-due")
            self._tasks.add(task)
            task.add_done_callback(partial(self._done, count))

    def _done(self, count: int, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        for _ in range(count):
            self._lanes.done()
        if not task.cancelled() and (error := task.exception()):
            log.error("a due job failed and comes again", exc_info=error)
        if not self._is_due:
            self._begin()

    async def _handle(self, group: Sequence[Msg]) -> None:
        with ExitStack() as hand:
            for msg in group:
                hand.enter_context(self._in_hand.holding(msg.reply))
            offered = await self._together.offer(group)
            await self._take_off(offered)
            replies = {msg.reply for msg in offered}
            others = [msg for msg in group if msg.reply not in replies]
            done = await asyncio.gather(*map(self._alone, others), return_exceptions=True)
            for error in done:
                if error is not None:
                    raise error

    async def _take_off(self, done: Sequence[Msg]) -> None:
        """Remove the messages where nobody else does, and only then acknowledge them.

        Raises Unavailable: what is not acknowledged comes again. For the others see `clearing`.
        """
        if self._bus.nc.is_clustered:
            sequences = (delivery(msg.reply).sequence for msg in done)
            await asyncio.gather(*map(self._timers.taken, sequences))
        await self._bus.publish_many([(msg.reply, ACK, {}) for msg in done])

    # -- each by itself ----------------------------------------------------------------------

    async def _alone(self, msg: Msg) -> None:
        async with self._slots:
            await self._settle(msg)

    async def _settle(self, msg: Msg) -> None:
        """Offer the job, remove the message, and only then acknowledge it."""
        try:
            await self._offer_or_bury(msg)
            await self._take_off([msg])
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
        if is_expiry(msg.subject):
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
