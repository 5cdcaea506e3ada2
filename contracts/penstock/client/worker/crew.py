"""Begins and ends many attempts together, so that their events share batches and writes.

What arrives in one round of the loop begins together, and what ends in one round ends together.
What could not be stored so is looked into by its attempt. Never decides what becomes of a job.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any

from penstock.client.worker.attempt import Attempt, Stop
from penstock.client.worker.decisions import End
from penstock.client.worker.leases import Leases
from penstock.contracts.errors import LeaseLost, PenstockError
from penstock.infra.append_many import UNKNOWN, append_many
from penstock.infra.bus import Bus
from penstock.infra.consuming.consumers import ACK

log = logging.getLogger(__name__)

NO_HEADERS: dict[str, str] = {}


class Crew:
    """The attempts of one worker; `done` is called for each that has left its hands."""

    def __init__(self, bus: Bus, leases: Leases, done: Callable[[], None]) -> None:
        self._bus = bus
        self._leases = leases
        self._done = done
        self._arrived: list[Attempt] = []
        self._ended: list[tuple[Attempt, End]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.attempts: dict[Attempt, None] = {}  # in the order of their arrival

    def take(self, attempt: Attempt) -> None:
        """Begin it with the others of this round, and see it through."""
        self.attempts[attempt] = None
        self._idle.clear()
        self._leases.hold(attempt)
        self._arrived.append(attempt)
        if len(self._arrived) == 1:
            asyncio.get_running_loop().call_soon(self._begin_round)

    def stop(self, why: Stop) -> None:
        """Have every handler end."""
        for attempt in tuple(self.attempts):
            attempt.stop(why)

    async def wait(self, seconds: float) -> None:
        """Until all have left its hands, but not longer than `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            log.info("%d jobs are still in hand", len(self.attempts))

    async def close(self) -> None:
        """Drop what is left: it comes again, elsewhere, when its lease ends."""
        tasks = [*self._tasks, *(a.task for a in self.attempts if a.task is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- beginning ---------------------------------------------------------------------------

    def _begin_round(self) -> None:
        arrived, self._arrived = self._arrived, []
        self._spawn(self._begin(arrived), arrived)

    async def _begin(self, attempts: Sequence[Attempt]) -> None:
        now = datetime.now(UTC)
        stored = await append_many(self._bus, [attempt.begin(now) for attempt in attempts])
        for attempt, sequence in zip(attempts, stored, strict=True):
            if sequence == UNKNOWN:
                self._spawn(self._begin_slowly(attempt), [attempt])
            else:
                attempt.begun(sequence)
                self._perform(attempt)

    async def _begin_slowly(self, attempt: Attempt) -> None:
        if await attempt.begin_slowly():
            self._perform(attempt)
        else:
            await self._bus.publish(attempt.reply, ACK)
            self._leave(attempt)

    # -- performing --------------------------------------------------------------------------

    def _perform(self, attempt: Attempt) -> None:
        attempt.task = task = asyncio.get_running_loop().create_task(attempt.perform())
        attempt.given_up = lambda: self._give_up(attempt)
        task.add_done_callback(lambda task: self._performed(attempt, task))
        if attempt.stopped:
            task.cancel()

    def _performed(self, attempt: Attempt, task: asyncio.Task[End | None]) -> None:
        if attempt.given_up is None:  # it was waited for no longer
            return
        attempt.given_up = None
        if task.cancelled():  # before its first step
            self._end_with(attempt, attempt.unfinished())
        elif (error := task.exception()) is not None:
            self._failed(attempt, error)
        else:
            self._end_with(attempt, task.result())

    def _give_up(self, attempt: Attempt) -> None:
        attempt.given_up = None
        self._end_with(attempt, attempt.unfinished())

    def _end_with(self, attempt: Attempt, end: End | None) -> None:
        if end is None:
            self._leave(attempt)
            return
        self._ended.append((attempt, end))
        if len(self._ended) == 1:
            asyncio.get_running_loop().call_soon(self._end_round)

    # -- ending ------------------------------------------------------------------------------

    def _end_round(self) -> None:
        ended, self._ended = self._ended, []
        self._spawn(self._end(ended), [attempt for attempt, _ in ended])

    async def _end(self, ended: Sequence[tuple[Attempt, End]]) -> None:
        now = datetime.now(UTC)
        appends = [attempt.end(end, now) for attempt, end in ended]
        answers = []
        for (attempt, end), sequence in zip(
            ended, await append_many(self._bus, appends), strict=True
        ):
            if sequence == UNKNOWN:
                self._spawn(self._end_slowly(attempt, end), [attempt])
                continue
            attempt.ended(sequence)
            if attempt.has_sequel(end):
                self._spawn(self._follow_up(attempt, end), [attempt])
            else:
                answers.append((attempt, attempt.answer(end)))
        await self._bus.publish_many([(one.reply, answer, NO_HEADERS) for one, answer in answers])
        for attempt, _ in answers:
            self._leave(attempt)

    async def _end_slowly(self, attempt: Attempt, end: End) -> None:
        await attempt.end_slowly(end)
        await self._follow_up(attempt, end)

    async def _follow_up(self, attempt: Attempt, end: End) -> None:
        await attempt.follow_up(end)
        await self._bus.publish(attempt.reply, attempt.answer(end))
        self._leave(attempt)

    def _leave(self, attempt: Attempt) -> None:
        if attempt not in self.attempts:
            return
        del self.attempts[attempt]
        self._leases.release(attempt)
        self._done()
        if not self.attempts:
            self._idle.set()

    # -- what runs beside --------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None], attempts: Sequence[Attempt]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._finished(task, attempts))

    def _finished(self, task: asyncio.Task[None], attempts: Sequence[Attempt]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            for attempt in attempts:
                self._failed(attempt, error)

    def _failed(self, attempt: Attempt, error: BaseException) -> None:
        """Leave it to the next delivery of its item."""
        if isinstance(error, LeaseLost):
            log.warning("%s", error)
        elif isinstance(error, PenstockError):
            log.warning("job %s comes back when its lease ends: %s", attempt.id, error)
        else:
            log.error("job %s: the worker failed", attempt.id, exc_info=error)
        self._leave(attempt)
