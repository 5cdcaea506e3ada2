"""Has schedules tick in memory, as `penstock.jobs.schedule` says. Never decides when."""

from __future__ import annotations

import logging

from penstock.client.testing.session import MemorySession
from penstock.contracts.envelope import Envelope
from penstock.contracts.jobs import SERVICE
from penstock.contracts.schedules import ScheduleState, tick_id, trigger_id
from penstock.infra.sender import Cause
from penstock.jobs.schedule import enqueueing, tick
from penstock.jobs.schedule_ticks import delay_of

log = logging.getLogger(__name__)


class Ticking:
    """What becomes of schedules when their time comes."""

    def __init__(self, session: MemorySession) -> None:
        self._session = session
        self._log = session.logs[SERVICE]

    def tick(self, id: str) -> None:
        """The time of the next tick has come: enqueue what that asks for."""
        state, now = self._log.states[id], self._session.clock()
        ticked = tick(state, now, busy=self._busy(state))
        if ticked is None:
            return
        flow = tick_id(state.name, ticked.through)
        event = self._log.append(
            id,
            ticked,
            event_id=f"{id}:{flow}",
            now=now,
            correlationid=flow,
            cause=None,
            actor=id,
        )
        for at in ticked.run:
            job = tick_id(state.name, at)
            self._enqueue(state, job, delay_of(job, at, state.timing.jitter, now), event, job)

    def trigger(self, id: str, command: Envelope) -> None:
        """Somebody wants the job now."""
        state = self._log.states[id]
        job = trigger_id(state.name, command.id)
        self._enqueue(state, job, 0.0, command, command.correlationid)

    def _busy(self, state: ScheduleState) -> bool:
        job = self._log.states.get(state.last_job or "")
        return state.overlap == "skip" and job is not None and not job.is_over

    def _enqueue(
        self, state: ScheduleState, job: str, delay: float, cause: Envelope, flow: str
    ) -> None:
        by = Cause(correlationid=flow, event=cause, actor=cause.actor)
        command = enqueueing(state.job, state.name, delay)
        outcome = self._session.carry_out(command, job, job, by)
        if outcome.problem is not None:
            log.warning("the job %s is refused: %s", job, outcome.problem.detail)
