"""The progress of jobs that are ended by others than their workers. Never tells how far one is."""

from __future__ import annotations

from penstock.contracts.envelope import Envelope
from penstock.infra.bus import Bus
from penstock.infra.sender import Cause, Sender
from penstock.jobs.job_endings import end_of_progress


class EndsOfProgress:
    """Ends the progress that has a job's id; the job's worker does the same, if it lives."""

    def __init__(self, bus: Bus) -> None:
        self._sender = Sender(bus)

    async def follow(self, last: Envelope, sequence: int) -> None:
        """The job's last event is `last`, at `sequence`. Raises Unavailable."""
        if (command := end_of_progress(last)) is None:
            return
        await self._sender.post(
            command,
            id=last.subject,
            command_id=f"{last.subject}:{sequence}:progress",  # as the worker's
            cause=Cause(correlationid=last.correlationid, event=last, actor=last.actor),
        )
