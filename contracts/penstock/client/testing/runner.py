"""The virtual clock: runs what is due, in order. What follows from what happened is in `following`.

Handlers run one after another. Never sleeps, and never decides what a domain decides.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, assert_never

import msgspec
from msgspec.structs import replace

from penstock.client.penstock import Penstock
from penstock.client.testing.absent import absent
from penstock.client.testing.agenda import Agenda, Due
from penstock.client.testing.attempt import NAME, MemoryAttempt, present_attempt
from penstock.client.testing.ran import Ran, Tally
from penstock.client.testing.session import MemorySession
from penstock.client.worker.handlers import Handler
from penstock.client.worker.signs import about
from penstock.contracts.envelope import Envelope
from penstock.contracts.errors import NotFound, PenstockError
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import SERVICE, CancelJob, EnqueueJob
from penstock.contracts.workers import HandlerInfo, WorkerSign


class Runner:
    """`queues` are those whose jobs are run, None for all; `seed` is that of the jitter."""

    def __init__(
        self,
        ps: Penstock,
        handlers: dict[str, Handler],
        queues: Collection[str] | None,
        start: datetime,
        seed: int,
    ) -> None:
        self.session = MemorySession(self)
        from penstock.client.testing.following import Following  # needs the jobs extra

        self.ps = ps
        self.now = start
        self.handlers = handlers
        self.threads: Executor = ThreadPoolExecutor(1, "penstock-testing")
        self.queues = queues
        self._log = self.session.logs[SERVICE]
        self._random = random.Random(seed)
        self._agenda = Agenda()
        self._following = Following(self.session, self._agenda, handlers)

    def close(self) -> None:
        """End the thread of sync handlers, and let go of what answers took."""
        self.threads.shutdown()
        self.session.close()

    # -- running -----------------------------------------------------------------------------

    async def run_to(
        self, end: datetime, *, queue: str | None = None, propagate: bool = False
    ) -> Ran:
        """Run what comes due until `end`, and what that makes due; of jobs those of `queue` alone.

        With `propagate` what a handler raises is raised. Raises RuntimeError for what has no end.
        """
        if present_attempt() is not None:
            raise absent("letting time pass in a handler other than by `sleep`")
        tally, others = Tally(), list[Due]()
        try:
            while (due := self._agenda.next_until(end)) is not None:
                if due.kind == "run" and queue not in (None, self._log.states[due.id].queue):
                    others.append(due)
                    continue
                self.now = max(self.now, due.at)
                if await self._take(due, propagate=propagate):
                    tally.add(self._log.states[due.id], self.now)
        finally:
            self._agenda.put_back(others)
        self.now = max(self.now, end)
        return tally.ran()

    async def drain(self, queue: str, *, with_delayed: bool, propagate: bool) -> Ran:
        """See `TestSystem.drain_queue`."""
        if self.queues is not None and queue not in self.queues:
            ours = ", ".join(map(repr, self.queues))
            raise ValueError(f"The worker takes no jobs from the queue {queue!r}; it has {ours}.")
        ran = await self.run_to(self.now, queue=queue, propagate=propagate)
        while with_delayed and (times := self._following.times(queue)):
            ran += await self.run_to(min(times), queue=queue, propagate=propagate)
        return ran

    async def _take(self, due: Due, *, propagate: bool) -> bool:
        """Whether an attempt was run."""
        is_current = self._log.sequence(due.id) == due.sequence
        match due.kind:
            case "gate":
                self._following.gate(due.id)
            case "expires":
                self._following.expire(due.id)
            case "tick" if is_current:
                self._following.tick(due.id)
            case "due" if is_current:
                self._following.admit(due.id)
            case "unhandled" if is_current:
                self._following.miss(due.id)
            case "run" if is_current and self._is_taken(self._log.states[due.id]):
                await self.attempt(due.id, propagate=propagate)
                return True
            case "tick" | "due" | "unhandled" | "run":
                pass  # it has moved on, or nobody takes it
            case never:
                assert_never(never)
        return False

    def _is_taken(self, job: JobState) -> bool:
        ours = self.queues is None or job.queue in self.queues
        return (
            ours and job.name in self.handlers and not self._following.queues.is_paused(job.queue)
        )

    def handler(self, name: str) -> Handler:
        """The one that does jobs of that name. Raises NotFound."""
        if name not in self.handlers:
            raise NotFound(f"There is no handler for {name!r}.")
        return self.handlers[name]

    async def attempt(self, id: str, *, propagate: bool = False) -> MemoryAttempt:
        """Run the handler of a job once, whatever it waits for. Raises NotFound without one."""
        job = self._log.states[id]
        attempt = MemoryAttempt(self, self.handler(job.name), job, self._log.sequence(id))
        await attempt.run()
        self._following.job(id)
        if propagate and attempt.error is not None:
            raise attempt.error
        return attempt

    async def perform(self, id: str) -> Any:
        """What the handler of a job returns, which is run once only. Raises what it raises."""
        attempt = await self.attempt(id)
        job: JobState = self._log.states[id]
        if not job.is_over:
            self.session.carry_out(CancelJob(reason="It was performed once."), id)
        if attempt.error is not None:
            raise attempt.error
        return job.result

    def started(self, id: str) -> None:
        """An attempt of a job has begun."""
        self._following.started(id)

    async def sleep(self, seconds: float) -> None:
        """Let time pass in a handler; its timeout may end it. Elsewhere run what comes due."""
        attempt, end = present_attempt(), self.now + timedelta(seconds=max(0.0, seconds))
        if attempt is None:
            await self.run_to(end)
        else:
            self.now = end
            attempt.stop_in_time()

    def jitter(self) -> float:
        """From 0 to 1, the same in each run of a test."""
        return self._random.random()

    # -- behind the session ------------------------------------------------------------------

    def check(self, command: msgspec.Struct, id: str) -> PenstockError | None:
        """See Behind.check: a payload that its handler does not take is refused."""
        if not isinstance(command, EnqueueJob):
            return None
        if handler := self.handlers.get(command.name):
            handler.arguments(msgspec.json.encode(command.payload))
        return self._following.refusal(command, id)

    def follow(self, service: str, id: str, command: Envelope, data: msgspec.Struct) -> None:
        """See Behind.follow."""
        if service == SERVICE:
            self._following.command(id, command, data)

    def sign(self) -> WorkerSign:
        """See Behind.sign."""
        queues = self.queues
        if queues is None:  # whichever there are
            queues = {job.queue for job in self._log.states.values() if isinstance(job, JobState)}
        handlers = tuple(
            HandlerInfo(name=one.name, lane=one.lane, payload=one.schema())
            for one in self.handlers.values()
        )
        present = about(NAME, None, tuple(sorted(queues)), 1, lease=5.0)
        return replace(present, started=self.now, time=self.now, handlers=handlers)
