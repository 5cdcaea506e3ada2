"""What a handler in memory tells of its job: stored at once, in its place. Never waits."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from penstock.client.session import state_of
from penstock.client.testing.session import MemorySession
from penstock.client.worker.described import clean
from penstock.client.worker.job_log import LINES, LONGEST
from penstock.client.worker.reports import CHECKPOINT, Reports
from penstock.contracts.errors import LeaseLost, TooLarge
from penstock.contracts.jobs import JobCheckpointed, JobLogged, LogLine
from penstock.contracts.progress import (
    CleanupProgress,
    CreateProgress,
    ProgressState,
    UpdateProgress,
)


class Noting(Protocol):
    """The attempt that reports."""

    attempt: int

    @property
    def id(self) -> str:
        """The job's."""
        ...

    def note(self, event: msgspec.Struct) -> bool:
        """Store an event of the job; False if it is no longer this attempt's."""
        ...


class MemoryReports(Reports):
    """Those of one attempt. Lines are kept until the next other event, as they are coalesced."""

    def __init__(
        self,
        attempt: Noting,
        session: MemorySession,
        stages: tuple[str, ...],
        *,
        has_progress: bool,
    ) -> None:
        self._noting = attempt
        self._session = session
        self._stages = stages
        self._unsaid: list[LogLine] = []
        self._is_made = False
        self._progress = self._log = None  # what the worker's own has
        self._has_progress = has_progress

    def progress(self, percent: float, stage: str | None, message: str | None) -> None:
        """See `JobContext.progress`."""
        if not self._is_made:
            self._begin()
        whole = min(max(float(percent), 0.0), 100.0)
        update = UpdateProgress(percent=whole, stage=stage, message=message)
        self._session.carry_out(update, self._noting.id)

    def log(self, message: str, level: str) -> None:
        """See `JobContext.log`."""
        now = self._session.clock()
        self._unsaid.append(LogLine(time=now, message=clean(message)[:LONGEST], level=level))

    async def save(self, value: Any) -> None:
        """See `JobContext.save_checkpoint`."""
        body = msgspec.json.encode(value)
        if len(body) > CHECKPOINT:
            raise TooLarge(
                f"The checkpoint has {len(body)} bytes and may have {CHECKPOINT}; "
                "store it elsewhere and save where."
            )
        saved = JobCheckpointed(attempt=self._noting.attempt, checkpoint=msgspec.json.decode(body))
        if not self._noting.note(saved):
            raise LeaseLost(f"The job {self._noting.id} is no longer this attempt's.")

    def flush(self) -> None:
        """Keep the lines said since the last time."""
        lines, self._unsaid = tuple(self._unsaid), []
        if lines:
            dropped = max(0, len(lines) - LINES)
            kept = JobLogged(attempt=self._noting.attempt, lines=lines[:LINES], dropped=dropped)
            self._noting.note(kept)

    def _begin(self) -> None:
        """Make the progress; anew if it ended with an earlier run of the job."""
        if not self.has_progress:
            self._noting.note(JobLogged(attempt=self._noting.attempt, progress=True))
        self._has_progress = self._is_made = True
        id = self._noting.id
        create = CreateProgress(stages=self._stages, metadata={"job": id})
        made = self._session.carry_out(create, id)
        if made.problem is None and state_of(made, ProgressState).is_over:
            self._session.carry_out(CleanupProgress(), id)
            self._session.carry_out(create, id)
