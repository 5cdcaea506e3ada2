"""Takes the timers whose time has come: offers jobs to workers, and hands on those of other kinds.

Never changes a job: a timer that comes late finds that the job has moved on, and does nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import msgspec
from nats.aio.msg import Msg

from penstock.contracts.envelope import decode, unwrap
from penstock.contracts.errors import InvalidMessage, PenstockError, Unavailable
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
from penstock.jobs.latest import Latest

log = logging.getLogger(__name__)

DUE = "jobs-due"  # the consumer of due timers
GROUP = 256  # due messages that are handled together
GROUPS = 2  # at a time; as many wait, so that the server is not waited for
ONE_BY_ONE = 64  # those that go each by itself, at a time
RETRY = 1.0  # seconds until it is tried again here
TRIES = 5  # deliveries of a timer that raises something unforeseen


class _Due(msgspec.Struct, frozen=True):
    """Whose time has come, if `sequence` is still its last event's."""

    id: str
    sequence: int
    msg: Msg


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
        latest: Latest,
        by_prefix: Mapping[str, OnDue] = {},
    ) -> None:
        self._bus = bus
        self._load = load
        self._dispatch = dispatch
        self._by_prefix = by_prefix
        self._timers = Timers(bus, SERVICE)
        self._latest = latest
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
            others = await self._together(group)
            done = await asyncio.gather(*map(self._alone, others), return_exceptions=True)
            for error in done:
                if error is not None:
                    raise error

    # -- together ----------------------------------------------------------------------------

    async def _together(self, group: Sequence[Msg]) -> list[Msg]:
        """Offer the jobs of which it is easily told whether they still wait; the other messages."""
        dues = _by_id([due for msg in group if (due := self._of_job(msg))])
        try:
            jobs = await self._latest.of(dues)
            at = {id: job for id, job in jobs.items() if job.sequence == dues[id].sequence}
            await self._dispatch.admit_all(
                [j for j in at.values() if isinstance(j.state, JobState)]
            )
            over = [dues[id].msg for id, job in jobs.items() if job.sequence >= dues[id].sequence]
            await self._take_off(over)
        except PenstockError as error:
            log.debug("%d due jobs go one by one: %s", len(dues), error)
            return list(group)
        replies = {msg.reply for msg in over}
        return [msg for msg in group if msg.reply not in replies]

    def _of_job(self, msg: Msg) -> _Due | None:
        """None for what is not for the time of a job."""
        try:
            message = decode(msg.data)
            due = unwrap(message)
        except InvalidMessage:
            return None
        kind, colon, _ = message.subject.partition(":")
        if not isinstance(due, JobDue) or kind + colon in self._by_prefix or _is_expiry(msg):
            return None
        return _Due(message.subject, due.sequence, msg)

    async def _take_off(self, done: Sequence[Msg]) -> None:
        """Remove the messages, and only then acknowledge them."""
        sequences = [delivery(msg.reply).sequence for msg in done]
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
        if _is_expiry(msg):
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


def _is_expiry(msg: Msg) -> bool:
    return untoken(msg.subject.rpartition(".")[2]).endswith(SUFFIX)


def _by_id(dues: Iterable[_Due]) -> dict[str, _Due]:
    """One for each job: of several the newest."""
    found: dict[str, _Due] = {}
    for due in dues:
        if due.id not in found or found[due.id].sequence <= due.sequence:
            found[due.id] = due
    return found
