"""Sees many attempts through, so that what begins and ends of them shares batches and writes.

What could not be stored together with the others is looked into by its attempt. Never decides what
becomes of a job.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

from penstock.client.worker.attempt import Attempt
from penstock.client.worker.decisions import End
from penstock.client.worker.holding import Stop
from penstock.client.worker.leases import Leases
from penstock.contracts.errors import LeaseLost, PenstockError
from penstock.infra.append_many import UNKNOWN, Append, Stored
from penstock.infra.bus import Bus
from penstock.infra.consuming.consumers import ACK

log = logging.getLogger(__name__)

NO_HEADERS: dict[str, str] = {}


class Appending(Protocol):
    """What stores the events of many attempts."""

    def add(self, append: Append, stored: Stored) -> None:
        """Store it with others; `stored` is called with its sequence, or UNKNOWN."""
        ...

    async def close(self) -> None:
        """Wait for what is on its way."""
        ...


class Crew:
    """The attempts of one worker; `done` is called for each that has left its hands."""

    def __init__(
        self, bus: Bus, leases: Leases, appends: Appending, done: Callable[[], None]
    ) -> None:
        self._bus = bus
        self._leases = leases
        self._done = done
        self._appends = appends
        self._answers: list[tuple[Attempt, bytes]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.attempts: dict[Attempt, None] = {}  # in the order of their arrival

    def take(self, attempt: Attempt) -> None:
        """Begin it with the others of this round, and see it through."""
        self.attempts[attempt] = None
        self._idle.clear()
        self._leases.hold(attempt)
        self._appends.add(attempt.begin(datetime.now(UTC)), partial(self._begun, attempt))

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
        await self._appends.close()
        tasks = [*self._tasks, *(a.task for a in self.attempts if a.task is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- beginning ---------------------------------------------------------------------------

    def _begun(self, attempt: Attempt, sequence: int) -> None:
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
        attempt.given_up = self._give_up
        task.add_done_callback(partial(self._performed, attempt))
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
        self._appends.add(attempt.end(end, datetime.now(UTC)), partial(self._ended, attempt, end))

    # -- ending ------------------------------------------------------------------------------

    def _ended(self, attempt: Attempt, end: End, sequence: int) -> None:
        if sequence == UNKNOWN:
            self._spawn(self._end_slowly(attempt, end), [attempt])
            return
        attempt.ended(sequence)
        if attempt.has_sequel(end):
            self._spawn(self._follow_up(attempt, end), [attempt])
            return
        self._answers.append((attempt, attempt.answer(end)))
        if len(self._answers) == 1:
            asyncio.get_running_loop().call_soon(self._answer_round)

    def _answer_round(self) -> None:
        answers, self._answers = self._answers, []
        self._spawn(self._answer(answers), [attempt for attempt, _ in answers])

    async def _answer(self, answers: Sequence[tuple[Attempt, bytes]]) -> None:
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
        attempt.task = None  # or only the garbage collector would find that nobody needs it
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
