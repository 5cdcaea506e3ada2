"""What follows in memory when a queue is paused, resumed, drained or purged. Never decides it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from penstock.client.testing.session import MemorySession
from penstock.contracts.envelope import Envelope
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import SERVICE, CancelJob
from penstock.contracts.queues import PurgeQueue, QueueState, ResumeQueue, queue_name
from penstock.infra.sender import Cause
from penstock.jobs.job import is_waiting
from penstock.jobs.queue_states import QueueStates


class MemoryQueues:
    """`states` are the queues that something was said about."""

    def __init__(self, session: MemorySession) -> None:
        self._session = session
        self._log = session.logs[SERVICE]
        self.states = QueueStates()

    def is_paused(self, queue: str) -> bool:
        """Whether no job of the queue may begin."""
        state = self.states.state(queue)
        return state is not None and state.paused

    def follow(self, id: str, command: Envelope, data: msgspec.Struct) -> Sequence[str]:
        """Do what a command asks for; the jobs that may go on by it."""
        state = self._log.states.get(id)
        if not isinstance(state, QueueState):
            return ()
        self.states.know(self._log.sequence(id), state)
        match data:
            case PurgeQueue():
                self._purge(queue_name(id), command)
            case ResumeQueue():
                return self._waiting_in(queue_name(id))
        return ()

    def _purge(self, queue: str, command: Envelope) -> None:
        cause = Cause(correlationid=command.correlationid, event=command, actor=command.actor)
        cancel = CancelJob(reason=f"the queue {queue!r} was purged", waiting=True)
        for job in self._waiting_in(queue):
            self._session.carry_out(cancel, job, f"{command.id}:{job}:cancel", cause)

    def _waiting_in(self, queue: str) -> list[str]:
        return [
            id
            for id, job in self._log.states.items()
            if isinstance(job, JobState) and job.queue == queue and is_waiting(job)
        ]
