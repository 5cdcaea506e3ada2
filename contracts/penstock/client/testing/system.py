"""`TestSystem`: a Penstock in memory that runs a worker's handlers by a virtual clock.

Handlers run one after another. Never sleeps, and never decides what a domain decides.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from penstock.client.jobs import Jobs
from penstock.client.penstock import Penstock
from penstock.client.session import caused_by
from penstock.client.testing.session import MemorySession, NotInMemory
from penstock.client.worker.decisions import Failure, after_failure
from penstock.client.worker.described import described
from penstock.client.worker.handlers import Handler
from penstock.client.worker.policy import Dead
from penstock.client.worker.registry import Handlers
from penstock.contracts.errors import InvalidMessage
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import EnqueueJob, JobCompleted, JobStarted
from penstock.infra.sender import Cause
from penstock.jobs.job import Offer, Wait, next_step


class TestSystem(Penstock):
    """Use it as `async with TestSystem(worker) as ps`. `start` is the virtual clock's first time;
    `seed` makes the jitter of retries repeatable. Only `ps.jobs` is there.
    """

    __test__ = False  # no class of tests for pytest

    def __init__(
        self, worker: Handlers, *, start: datetime = datetime(2026, 1, 1, tzinfo=UTC), seed: int = 0
    ) -> None:
        super().__init__("memory")
        self.now = start
        self._handlers = {handler.name: handler for handler in worker}
        self._random = random.Random(seed)
        self._due: list[tuple[datetime, int, int, str]] = []

    async def connect(self) -> TestSystem:
        """Begin with nothing enqueued."""
        self._memory = MemorySession(lambda: self.now, self._check, self._plan)
        self.session = self._memory
        self.jobs = Jobs(self.session)
        self._thread = ThreadPoolExecutor(1, "penstock-testing")
        return self

    async def close(self) -> None:
        """End the thread of sync handlers."""
        self._thread.shutdown()

    async def __aenter__(self) -> TestSystem:
        return await self.connect()

    # -- time --------------------------------------------------------------------------------

    async def run_until_idle(self) -> None:
        """Run what is due now, and what that makes due."""
        await self._run_to(self.now)

    async def advance(self, **time: float) -> None:
        """Let time pass, as `timedelta` has it (`hours=1`), running all in order as it comes due.

        Raises ValueError for less than nothing.
        """
        end = self.now + timedelta(**time)
        if end < self.now:
            raise ValueError("Time only goes forward; advance by more than nothing.")
        await self._run_to(end)
        self.now = end

    async def _run_to(self, end: datetime) -> None:
        while self._due and self._due[0][0] <= end:
            at, _, sequence, id = heapq.heappop(self._due)
            self.now = max(self.now, at)
            state = self._memory.states[id]
            if self._memory.sequence(id) == sequence and state.name in self._handlers:
                await self._attempt(state, sequence)

    def _check(self, command: EnqueueJob) -> None:
        if handler := self._handlers.get(command.name):
            handler.arguments(msgspec.json.encode(command.payload))

    def _plan(self, id: str) -> None:
        state, sequence = self._memory.states[id], self._memory.sequence(id)
        match next_step(state, sequence):
            case Offer():
                heapq.heappush(self._due, (self.now, -state.priority, sequence, id))
            case Wait(run_at):
                heapq.heappush(self._due, (run_at, -state.priority, sequence, id))
            case _:
                pass

    # -- running -----------------------------------------------------------------------------

    async def _attempt(self, state: JobState, item: int) -> None:
        handler, cause = self._handlers[state.name], self._memory.events[state.id][-1][1]
        attempt = state.attempt + 1
        begun = JobStarted(attempt=attempt, worker="testing", item=item)
        started = self._memory.append(state.id, begun, cause)
        fence = self._memory.sequence(state.id)
        with caused_by(Cause(correlationid=started.correlationid, event=started)):
            end = await self._end(handler, state, attempt)
        if self._memory.sequence(state.id) == fence:  # else it was cancelled meanwhile
            self._memory.append(state.id, end, started)

    async def _end(self, handler: Handler, state: JobState, attempt: int) -> Any:
        try:
            arguments = handler.arguments(msgspec.json.encode(state.payload))
        except InvalidMessage as error:
            failure = Failure(described(error, trace=False), Dead(), cause="payload")
            return self._failed(failure, handler, state, attempt)
        try:
            value = await self._call(handler, arguments, state, attempt)
            return JobCompleted(attempt=attempt, result=msgspec.Raw(msgspec.json.encode(value)))
        except NotInMemory:
            raise  # what this system cannot do is the test's to know
        except Exception as error:  # noqa: BLE001 - becomes the job's error
            failure = Failure(described(error), handler.policy.after(error))
            return self._failed(failure, handler, state, attempt)

    def _failed(self, failure: Failure, handler: Handler, state: JobState, attempt: int) -> Any:
        policy = handler.policy
        return after_failure(
            failure,
            attempt=attempt,
            max_attempts=policy.max_attempts or state.max_attempts,
            backoff=policy.backoff or state.backoff,
            now=self.now,
            jitter=self._random.random(),
        )

    async def _call(
        self, handler: Handler, arguments: dict[str, Any], state: JobState, attempt: int
    ) -> Any:
        if handler.takes_context or handler.timeout:
            raise NotInMemory(
                f"The handler of {state.name!r} takes a JobContext or has a timeout, which "
                "penstock.client.testing does not do in memory. Test it on a real system."
            )
        if handler.lane == "async":
            return await handler.call(arguments, None)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, handler.call, arguments, None)

    # -- asserting ---------------------------------------------------------------------------

    def assert_enqueued(self, name: str, **wanted: Any) -> JobState:
        """A job of that name whose fields are as `wanted`; of `payload` a part is enough.

        Raises AssertionError, which lists the jobs of that name.
        """
        jobs = [job for job in self._memory.states.values() if job.name == name]
        for job in jobs:
            if _fits(job, wanted):
                return job
        there = "\n".join(f"  {job.payload} in {job.queue}" for job in jobs) or "  none"
        raise AssertionError(f"No job {name!r} is enqueued with {wanted}; there are:\n{there}")

    def refute_enqueued(self, name: str, **wanted: Any) -> None:
        """Raise AssertionError if there is such a job; see `assert_enqueued`."""
        for job in self._memory.states.values():
            if job.name == name and _fits(job, wanted):
                raise AssertionError(f"A job {name!r} is enqueued: {job.payload} in {job.queue}")


def _fits(job: JobState, wanted: dict[str, Any]) -> bool:
    return all(_field(job, key, value) for key, value in wanted.items())


def _field(job: JobState, key: str, value: Any) -> bool:
    if key == "payload":
        return all(k in job.payload and job.payload[k] == v for k, v in value.items())
    if key == "delay":
        waits = (job.run_at - job.created).total_seconds() if job.run_at else 0
        return bool(waits == value)
    return bool(getattr(job, key) == value)
