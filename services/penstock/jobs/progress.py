"""The progress of jobs that are ended by others than their workers. Never tells how far one is."""

from __future__ import annotations

from penstock.contracts.envelope import Envelope, unwrap
from penstock.contracts.jobs import JobCancelled, JobFailed
from penstock.contracts.progress import CancelProgress, FailProgress
from penstock.infra.bus import Bus
from penstock.infra.sender import Cause, Sender


class EndsOfProgress:
    """Ends the progress that has a job's id; the job's worker does the same, if it lives."""

    def __init__(self, bus: Bus) -> None:
        self._sender = Sender(bus)

    async def follow(self, last: Envelope, sequence: int) -> None:
        """The job's last event is `last`, at `sequence`. Raises Unavailable."""
        match unwrap(last):
            case JobCancelled(reason=reason):
                command: CancelProgress | FailProgress = CancelProgress(reason=reason)
            case JobFailed(error=error):
                command = FailProgress(error=f"{error.type}: {error.message}")
            case _:
                return
        await self._sender.post(
            command,
            id=last.subject,
            command_id=f"{last.subject}:{sequence}:progress",  # as the worker's
            cause=Cause(correlationid=last.correlationid, event=last, actor=last.actor),
        )
