"""The progress of a job: the newest is sent now and then, and it ends as the job does.

Never decides how the job ends.
"""

from __future__ import annotations

import asyncio
import logging

from penstock.client.penstock import Penstock
from penstock.client.session import state_of
from penstock.client.worker.notes import Notes
from penstock.contracts.errors import PenstockError, Timeout, Unavailable
from penstock.contracts.jobs import JobCancelled, JobCompleted, JobFailed, JobLogged
from penstock.contracts.progress import (
    CancelProgress,
    CleanupProgress,
    CompleteProgress,
    CreateProgress,
    FailProgress,
    ProgressState,
    UpdateProgress,
)

log = logging.getLogger(__name__)

EVERY = 0.25  # seconds between two updates


class JobProgress:
    """What one attempt tells of it; `exists` if the job has one, perhaps of an earlier attempt."""

    def __init__(
        self, notes: Notes, ps: Penstock, stages: tuple[str, ...], *, exists: bool
    ) -> None:
        self._notes = notes
        self._ps = ps
        self._stages = stages
        self._update: UpdateProgress | None = None
        self._is_made = False
        self.exists = exists
        self.sending: asyncio.Task[None] | None = None

    def tell(self, update: UpdateProgress) -> None:
        """Send it soon, unless there is a newer one by then."""
        self._update = update
        if self.sending is None:
            self.sending = asyncio.create_task(self._send_updates(), name="job-progress")

    async def send(self) -> None:
        """Send what is left now. Raises PenstockError."""
        update, self._update = self._update, None
        if update is None:
            return
        try:
            if not self._is_made:
                await self._make()
                self._is_made = True
            await self._ps.session.command(update, id=self._notes.attempt.id)
        except (Unavailable, Timeout, asyncio.CancelledError):
            self._keep(update)
            raise

    async def _send_updates(self) -> None:
        while self._update is not None:
            try:
                await self.send()
            except PenstockError as error:
                id = self._notes.attempt.id
                log.warning("the progress of job %s is not told: %s", id, error)
            await asyncio.sleep(EVERY)
        self.sending = None

    async def _make(self) -> None:
        """Make the progress; anew if it ended with an earlier run of the job.

        The job's events tell first that there is one, so that it is ended whoever ends the job.
        """
        attempt, session = self._notes.attempt, self._ps.session
        if not self.exists:
            await self._notes.store(JobLogged(attempt=attempt.attempt, progress=True))
            self.exists = True
        create = CreateProgress(stages=self._stages, metadata={"job": attempt.id})
        made = state_of(await session.command(create, id=attempt.id), ProgressState)
        if made.is_over:
            await session.command(CleanupProgress(), id=attempt.id)
            await session.command(create, id=attempt.id)

    def _keep(self, update: UpdateProgress) -> None:
        """Send it the next time, unless there is a newer one by then."""
        if self._update is None:
            self._update = update


async def end_progress(
    ps: Penstock, id: str, end: JobCompleted | JobFailed | JobCancelled, sequence: int
) -> None:
    """End the progress of a job as the job did by its event `end`, at `sequence`.

    Any number of times. Raises Unavailable.
    """
    await ps.session.post(_ending(end), id=id, command_id=f"{id}:{sequence}:progress")


def _ending(
    end: JobCompleted | JobFailed | JobCancelled,
) -> CompleteProgress | FailProgress | CancelProgress:
    match end:
        case JobCompleted():
            return CompleteProgress()
        case JobFailed():
            return FailProgress(error=f"{end.error.type}: {end.error.message}")
        case JobCancelled():
            return CancelProgress(reason=end.reason)
