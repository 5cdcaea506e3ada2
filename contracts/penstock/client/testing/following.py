"""What follows in memory from the events of jobs, schedules, queues and workflows. Never decides.

It is what the jobs service does by its effects, in their order.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, assert_never

import msgspec

from penstock.client.testing.agenda import Agenda
from penstock.client.testing.gates import MemoryGates
from penstock.client.testing.queues import MemoryQueues
from penstock.client.testing.schedules import Ticking
from penstock.client.testing.session import MemorySession
from penstock.client.testing.unique import MemoryUniqueKeys
from penstock.client.testing.workflows import MemoryWorkflows
from penstock.contracts.envelope import Envelope
from penstock.contracts.errors import PenstockError
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import SERVICE, CancelJob, EnqueueJob
from penstock.contracts.schedules import ScheduleState, TriggerSchedule
from penstock.infra.sender import Cause
from penstock.infra.settings import Settings
from penstock.jobs.gate import gates, is_gated
from penstock.jobs.job import Offer, Wait, Withdraw, is_waiting, next_step
from penstock.jobs.job_endings import EXPIRED, end_of_progress, unhandled

GRACE = timedelta(seconds=Settings().unhandled_grace)


class Following:
    """`handled` are the names that the worker has handlers of."""

    def __init__(self, session: MemorySession, agenda: Agenda, handled: Collection[str]) -> None:
        self._session = session
        self._log = session.logs[SERVICE]
        self._agenda = agenda
        self._handled = handled
        self.queues = MemoryQueues(session)
        self._schedules = Ticking(session)
        self._workflows = MemoryWorkflows(session)
        self._unique = MemoryUniqueKeys(self._log, session.clock)
        self._gates = MemoryGates(
            self._log,
            session.clock,
            self.queues.states.weight,
            lambda moment, gate: agenda.put(moment, "gate", gate),
        )

    def refusal(self, command: EnqueueJob, id: str) -> PenstockError | None:
        """Why there may be no new job, if so; one with a unique key reserves it."""
        refusal = self.queues.states.refusal(command.queue)
        if refusal is None and id not in self._log.states:
            return self._unique.reserve(id, command.rules)
        return refusal

    def times(self, queue: str) -> list[datetime]:
        """The moments to come that jobs of a queue wait for, of those that have handlers."""
        now = self._session.clock()
        jobs = [
            job
            for job in self._log.states.values()
            if isinstance(job, JobState)
            and (job.queue == queue and job.name in self._handled and is_waiting(job))
        ]
        at_gates = {gate.id for job in jobs for gate in gates(job)}
        times = [job.run_at for job in jobs if job.run_at] + self._agenda.times(at_gates)
        return [time for time in times if time > now]

    # -- what happened -----------------------------------------------------------------------

    def command(self, id: str, command: Envelope, data: msgspec.Struct) -> None:
        """A command was carried out."""
        if isinstance(data, TriggerSchedule):
            self._schedules.trigger(id, command)
        for other in self.queues.follow(id, command, data):
            self.job(other)
        self._workflows.follow(id, command)
        match self._log.states.get(id):
            case ScheduleState():
                self.schedule(id)
            case JobState():
                self.job(id)

    def schedule(self, id: str) -> None:
        """A schedule has changed."""
        state = self._log.states[id]
        if state.next is not None:
            self._agenda.put(state.next, "tick", id, self._log.sequence(id))

    def tick(self, id: str) -> None:
        """The time of a schedule's next tick has come."""
        self._schedules.tick(id)
        self.schedule(id)

    def gate(self, id: str) -> None:
        """A gate that let nobody through has opened."""
        for job in self._gates.fill(id):
            self._offer(job)

    def started(self, id: str) -> None:
        """An attempt of a job has begun."""
        if is_gated(self._log.states[id].rules):
            self.job(id)

    def job(self, id: str) -> None:
        """A job has changed."""
        state, sequence = self._log.states[id], self._log.sequence(id)
        if (other := self._unique.claim(state)) is not None:
            self._do(CancelJob(reason=str(other)), id, "duplicate")
            return
        if state.expires_at is not None and not state.is_over:
            self._agenda.put(state.expires_at, "expires", id)
        for freed in self._gates.freed_by(id):
            self._offer(freed)
        match next_step(state, sequence):
            case Offer():
                self.admit(id)
            case Wait(run_at):
                self._agenda.put(run_at, "due", id, sequence, state.priority)
            case Withdraw():
                self._end_progress(state)
            case None:
                pass
            case never:
                assert_never(never)
        self._workflows.tell(state)

    def admit(self, id: str) -> None:
        """Offer a job whose time has come, or have it wait for others first."""
        if self._gates.admits(id):
            self._offer(id)

    def _offer(self, id: str) -> None:
        state, now = self._log.states[id], self._session.clock()
        sequence = self._log.sequence(id)
        self._agenda.put(now, "run", id, sequence, state.priority)
        if state.rules.if_unhandled == "fail" and state.name not in self._handled:
            self._agenda.put(now + GRACE, "unhandled", id, sequence)

    # -- what waited for too long --------------------------------------------------------------

    def expire(self, id: str) -> None:
        """The time of a whole job may be over."""
        job: JobState = self._log.states[id]
        is_late = job.expires_at is not None and job.expires_at <= self._session.clock()
        if is_late and not job.is_over:
            self._do(EXPIRED, id, "expired")

    def miss(self, id: str) -> None:
        """Nobody has done a job that is to fail then."""
        self._do(unhandled(self._log.states[id].name, GRACE.total_seconds()), id, "unhandled")

    def _end_progress(self, state: JobState) -> None:
        """That of a job that ended; a worker that ended it did so already."""
        if state.progress and (command := end_of_progress(self._log.last(state.id))):
            self._do(command, state.id, "progress")

    def _do(self, command: Any, id: str, what: str) -> None:
        last = self._log.last(id)
        cause = Cause(correlationid=last.correlationid, event=last, actor=last.actor)
        self._session.carry_out(command, id, f"{id}:{self._log.sequence(id)}:{what}", cause)
