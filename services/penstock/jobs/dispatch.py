"""Brings work items, timers and withdrawals in line with the log. Never decides and never runs.

Every step may be done again: an item is known by its Nats-Msg-Id and fenced by its sequence, a
timer replaces itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar, assert_never

from penstock.contracts.envelope import Envelope, encode, unwrap
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import SERVICE, JobQueued, timer
from penstock.infra.bus import Bus, StreamError
from penstock.infra.consuming.removal import remove_subject
from penstock.infra.deciding.decider import Aggregate
from penstock.infra.event_log import Recorded
from penstock.infra.timers import Timer, Timers
from penstock.jobs.admission import Admission
from penstock.jobs.expiry import Expiry
from penstock.jobs.gate import is_gated
from penstock.jobs.job import Offer, Wait, Withdraw, next_step
from penstock.jobs.offers import Offers
from penstock.jobs.progress import EndsOfProgress
from penstock.jobs.unique_claims import UniqueClaims
from penstock.jobs.withdrawals import Withdrawals

T = TypeVar("T")


def is_plain(state: JobState) -> bool:
    """Whether nothing but an item or one timer follows from its state, and nobody is asked."""
    rules = state.rules
    return state.expires_at is None and rules.unique_key is None and not is_gated(rules)


def is_withdrawn(state: JobState) -> bool:
    """Whether all that follows from its state is that its places, item and timer are taken back."""
    return state.state == "cancelled" and state.expires_at is None and not state.progress


async def _unless_refused(
    send: Callable[[Sequence[T]], Awaitable[None]], jobs: Sequence[tuple[Aggregate[JobState], T]]
) -> list[Aggregate[JobState]]:
    """Send what goes with each job, all in one; the jobs of which nothing was stored."""
    try:
        if jobs:
            await send([one for _, one in jobs])
    except StreamError:
        return [job for job, _ in jobs]
    return []


class Dispatch:
    """What becomes of a job outside of its events. `admission` offers those that may be run."""

    def __init__(
        self, bus: Bus, admission: Admission, offers: Offers, claims: UniqueClaims
    ) -> None:
        self._bus = bus
        self._timers = Timers(bus, SERVICE)
        self._work = bus.subjects.stream("work")
        self._admission = admission
        self._offers = offers
        self._claims = claims
        self.expiry = Expiry(bus)
        self._withdrawals = Withdrawals(bus)
        self._ends_of_progress = EndsOfProgress(bus)

    async def effect(self, job: Aggregate[JobState], _: Envelope) -> None:
        """Do what the job's present state asks for; see `Decider`."""
        if job.state is None or job.last is None:
            return
        if not await self._claims.is_wanted(job):
            return
        await self.expiry.follow(job.state, job.last, job.sequence)
        step = next_step(job.state, job.sequence)
        if isinstance(step, Offer):
            await self.admit(job)
            return
        await self._admission.settle(job)
        match step:
            case Wait(run_at):
                message = timer(job.last, job.sequence)
                await self._timers.set(job.id, run_at, encode(message))
            case Withdraw():
                await self._withdrawals.withdraw(job.state)
                if job.state.progress:
                    await self._ends_of_progress.follow(job.last, job.sequence)
            case None:
                pass
            case never:
                assert_never(never)

    async def all(self, jobs: Sequence[Aggregate[JobState]], command: Envelope) -> None:
        """As `effect` for each of up to 1000 jobs whose events were just stored, in few batches."""
        offered: list[Aggregate[JobState]] = []
        waiting: list[tuple[Aggregate[JobState], Timer]] = []
        withdrawn: list[Aggregate[JobState]] = []
        by_itself: list[Aggregate[JobState]] = []
        for job in jobs:
            assert job.state is not None and job.last is not None
            match next_step(job.state, job.sequence) if is_plain(job.state) else None:
                case _ if is_withdrawn(job.state):
                    withdrawn.append(job)
                case Offer():
                    offered.append(job)
                case Wait(run_at):
                    message = timer(job.last, job.sequence)
                    waiting.append((job, (job.id, run_at, encode(message))))
                case _:
                    by_itself.append(job)
        _, refused, _ = await asyncio.gather(
            self._offers.offer_all(offered),
            _unless_refused(self._timers.set_many, waiting),
            self._withdraw_all(withdrawn),
        )
        by_itself += refused
        await asyncio.gather(*(self.effect(job, command) for job in by_itself))

    async def _withdraw_all(self, jobs: Sequence[Aggregate[JobState]]) -> None:
        await asyncio.gather(
            self._withdrawals.withdraw_all([job.state for job in jobs if job.state]),
            *map(self._admission.settle, jobs),
        )

    async def admit(self, job: Aggregate[JobState]) -> None:
        """Offer a job whose time has come, or have it wait for others first.

        Raises Unavailable, or Timeout: do it again then.
        """
        await self._admission.admit(job)

    async def admit_all(self, jobs: Sequence[Aggregate[JobState]]) -> None:
        """As `admit` each of up to 1000 jobs."""
        free = [job for job in jobs if job.state and not is_gated(job.state.rules)]
        gated = [job for job in jobs if job.state and is_gated(job.state.rules)]
        await asyncio.gather(self._offers.offer_all(free), *map(self.admit, gated))

    async def remove(self, command: Envelope, events: Sequence[Recorded]) -> None:
        """Take back the item and the timer of a job that is erased; see `Eraser`."""
        for queued in (unwrap(record.event) for record in events):
            if isinstance(queued, JobQueued):
                subjects = self._bus.subjects
                subject = subjects.work(queued.queue, queued.priority, command.subject)
                await remove_subject(self._bus, self._work, subject)
        await self._timers.cancel(command.subject)
        await self.expiry.forget(command.subject)
