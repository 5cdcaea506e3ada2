"""The virtual clock: runs what is due, in order, and does what follows from states.

Handlers run one after another. Never sleeps, and never decides what a domain decides.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Collection
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from penstock.client.penstock import Penstock
from penstock.client.testing.absent import absent
from penstock.client.testing.attempt import MemoryAttempt, present_attempt
from penstock.client.testing.session import MemorySession
from penstock.client.worker.handlers import Handler
from penstock.contracts.envelope import Envelope, unwrap
from penstock.contracts.errors import PenstockError
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import (
    SERVICE,
    EnqueueJob,
    FailJob,
    JobCancelled,
    JobError,
    JobFailed,
    Rules,
)
from penstock.contracts.progress import CancelProgress, FailProgress
from penstock.contracts.queues import SetWeight
from penstock.contracts.schedules import PutSchedule, ScheduleState, TriggerSchedule
from penstock.contracts.workflows import (
    AdvanceWorkflow,
    CancelWorkflow,
    RestartWorkflow,
    StartWorkflow,
)
from penstock.infra.sender import Cause
from penstock.jobs.job import Offer, Wait, next_step

Kind = Literal["next", "expires"]
Workflow = StartWorkflow | AdvanceWorkflow | CancelWorkflow | RestartWorkflow
TICKS_FIRST = -10  # before the jobs that are due at the same time
EXPIRED = JobError(type="TimedOut", message="The time for the whole job is over.")


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
        self.session = MemorySession(lambda: self.now, self._check, self._follow)
        from penstock.client.testing.queues import MemoryQueues  # both need the jobs extra
        from penstock.client.testing.schedules import Ticking

        self.ps = ps
        self.now = start
        self.handlers = handlers
        self.threads: Executor = ThreadPoolExecutor(1, "penstock-testing")
        self._queues = queues
        self._log = self.session.logs[SERVICE]
        self._ticking = Ticking(self.session)
        self._waiting = MemoryQueues(self.session)
        self._random = random.Random(seed)
        self._due: list[tuple[datetime, int, int, str, Kind]] = []

    def jitter(self) -> float:
        """From 0 to 1, the same in each run of a test."""
        return self._random.random()

    async def run_to(self, end: datetime) -> None:
        """Run what comes due until `end`, and what that makes due."""
        if present_attempt() is not None:
            raise absent("letting time pass in a handler other than by `sleep`")
        while self._due and self._due[0][0] <= end:
            at, _, sequence, id, kind = heapq.heappop(self._due)
            self.now = max(self.now, at)
            if kind == "expires":
                self._expire(id)
            elif self._log.sequence(id) == sequence:
                await self._go_on(id, sequence)
        self.now = max(self.now, end)

    async def attempt(self, id: str) -> MemoryAttempt:
        """Run the handler of a job once, whatever it waits for."""
        job = self._log.states[id]
        attempt = MemoryAttempt(self, self.handlers[job.name], job, self._log.sequence(id))
        await attempt.run()
        self._plan(id)
        return attempt

    async def sleep(self, seconds: float) -> None:
        """Let time pass in a handler; its timeout may end it. Elsewhere run what comes due."""
        attempt, end = present_attempt(), self.now + timedelta(seconds=max(0.0, seconds))
        if attempt is None:
            await self.run_to(end)
        else:
            self.now = end
            attempt.stop_in_time()

    async def _go_on(self, id: str, sequence: int) -> None:
        state = self._log.states[id]
        if isinstance(state, ScheduleState):
            self._ticking.tick(id)
            self._plan(id)
        elif state.name in self.handlers and self._is_served(state.queue):
            await self.attempt(id)

    def _is_served(self, queue: str) -> bool:
        ours = self._queues is None or queue in self._queues
        return ours and not self._waiting.is_paused(queue)

    def _expire(self, id: str) -> None:
        job: JobState = self._log.states[id]
        if job.is_over or job.expires_at is None or job.expires_at > self.now:
            return
        last = self._log.last(id)
        cause = Cause(correlationid=last.correlationid, event=last, actor=last.actor)
        command_id = f"{id}:{self._log.sequence(id)}:expired"
        self.session.carry_out(FailJob(error=EXPIRED, cause="timeout"), id, command_id, cause)

    # -- what comes of a command -------------------------------------------------------------

    def _check(self, command: msgspec.Struct) -> PenstockError | None:
        match command:
            case EnqueueJob():
                _check_rules(command.rules)
                if handler := self.handlers.get(command.name):
                    handler.arguments(msgspec.json.encode(command.payload))
                return self._waiting.states.refusal(command.queue)
            case PutSchedule():
                _check_rules(command.job.rules)
            case SetWeight():
                raise absent("weights of tenants")
            case _ if isinstance(command, Workflow):
                raise absent("workflows")
        return None

    def _follow(self, service: str, id: str, command: Envelope, data: msgspec.Struct) -> None:
        if service != SERVICE:
            return
        if isinstance(data, TriggerSchedule):
            self._ticking.trigger(id, command)
        for other in self._waiting.follow(id, command, data):
            self._plan(other)
        if id in self._log.states:
            self._plan(id)
            self._end_progress(id)

    def _plan(self, id: str) -> None:
        state, sequence = self._log.states[id], self._log.sequence(id)
        if isinstance(state, ScheduleState) and state.next is not None:
            heapq.heappush(self._due, (state.next, TICKS_FIRST, sequence, id, "next"))
        if not isinstance(state, JobState):
            return
        if not state.is_over and state.expires_at is not None:
            heapq.heappush(self._due, (state.expires_at, 1, sequence, id, "expires"))
        match next_step(state, sequence):
            case Offer():
                heapq.heappush(self._due, (self.now, -state.priority, sequence, id, "next"))
            case Wait(run_at):
                heapq.heappush(self._due, (run_at, -state.priority, sequence, id, "next"))

    def _end_progress(self, id: str) -> None:
        """That of a job that a command ended."""
        state, last = self._log.states[id], self._log.last(id)
        if not (isinstance(state, JobState) and state.progress and state.is_over):
            return
        end = unwrap(last)
        command: CancelProgress | FailProgress
        match end:
            case JobCancelled():
                command = CancelProgress(reason=end.reason)
            case JobFailed():
                command = FailProgress(error=f"{end.error.type}: {end.error.message}")
            case _:
                return
        cause = Cause(correlationid=last.correlationid, event=last, actor=last.actor)
        command_id = f"{id}:{self._log.sequence(id)}:progress"
        self.session.carry_out(command, id, command_id, cause)


def _check_rules(rules: Rules) -> None:
    kept = Rules(
        max_crashes=rules.max_crashes,
        timeout=rules.timeout,
        total_timeout=rules.total_timeout,
        tenant=rules.tenant,
    )
    if rules != kept:
        raise absent("limits, rates, unique keys and what follows where no worker knows a job")
