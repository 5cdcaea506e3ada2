"""What a handler tells of its job while it runs: progress, log lines and checkpoints.

Coalesced: the newest progress and the lines since the last time are sent now and then, and at the
end. Never decides how the job ends.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec
from msgspec.structs import replace

from penstock.client.penstock import Penstock
from penstock.client.worker.decisions import End
from penstock.client.worker.job_log import JobLog
from penstock.client.worker.job_progress import JobProgress
from penstock.client.worker.notes import Notes, Written
from penstock.contracts.errors import PenstockError, TooLarge
from penstock.contracts.jobs import JobCheckpointed, JobCompleted, JobFailed
from penstock.contracts.progress import UpdateProgress

log = logging.getLogger(__name__)

CHECKPOINT = 64 * 1024  # bytes of JSON

_encode = msgspec.json.Encoder().encode


class Reports:
    """Those of one attempt; all of it runs on the worker's loop.

    `has_progress` says that the job has a progress, perhaps from an earlier attempt.
    """

    def __init__(
        self,
        attempt: Written,
        ps: Penstock,
        stages: tuple[str, ...] = (),
        *,
        has_progress: bool = False,
    ) -> None:
        self._notes = Notes(attempt)
        self._ps = ps
        self._stages = stages
        self._has_progress = has_progress
        # Made when they are needed: most handlers tell nothing.
        self._progress: JobProgress | None = None
        self._log: JobLog | None = None

    @property
    def has_progress(self) -> bool:
        """Whether the job has a progress by now."""
        return self._has_progress if self._progress is None else self._progress.exists

    def progress(self, percent: float, stage: str | None, message: str | None) -> None:
        """See `JobContext.progress`."""
        percent = min(max(float(percent), 0.0), 100.0)
        if self._progress is None:
            self._progress = JobProgress(
                self._notes, self._ps, self._stages, exists=self._has_progress
            )
        self._progress.tell(UpdateProgress(percent=percent, stage=stage, message=message))

    def log(self, message: str, level: str) -> None:
        """See `JobContext.log`."""
        if self._log is None:
            self._log = JobLog(self._notes, self._ps)
        self._log.add(message, level)

    async def save(self, value: Any) -> None:
        """See `JobContext.save_checkpoint`."""
        size = len(_encode(value))
        if size > CHECKPOINT:
            raise TooLarge(
                f"The checkpoint has {size} bytes and may have {CHECKPOINT}; "
                "store it elsewhere and save where."
            )
        attempt = self._notes.attempt.attempt
        await self._notes.store(JobCheckpointed(attempt=attempt, checkpoint=value))

    async def close(self, end: End) -> End:
        """Send what is left; the end of the job as it is to be stored."""
        await asyncio.sleep(0)  # what other threads said before they ended
        await self.drop()
        try:
            if self._progress is not None:
                await self._progress.send()
            if self._log is not None:
                await self._log.store()
        except PenstockError as error:
            log.warning("job %s: what it said last is lost: %s", self._notes.attempt.id, error)
        await self._notes.wait()
        if self.has_progress and isinstance(end, JobCompleted | JobFailed):
            return replace(end, progress=True)
        return end

    async def drop(self) -> None:
        """Send nothing more by itself: the job ends, or is not this attempt's."""
        sending = self._progress.sending if self._progress is not None else None
        keeping = self._log.keeping if self._log is not None else None
        for task in (sending, keeping):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
