"""What a handler tells of its job while it runs: progress, log lines and checkpoints.

Coalesced: the newest progress and the lines since the last time are sent now and then, and at the
end. Never decides how the job ends.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from penstock.client.penstock import Penstock
from penstock.client.worker.decisions import End
from penstock.client.worker.journal import Journal
from penstock.contracts.errors import Conflict, LeaseLost, PenstockError, TooLarge
from penstock.contracts.jobs import (
    SERVICE,
    JobCancelled,
    JobCheckpointed,
    JobCompleted,
    JobFailed,
    JobLogged,
    LogLine,
)
from penstock.contracts.progress import (
    CancelProgress,
    CompleteProgress,
    CreateProgress,
    FailProgress,
    UpdateProgress,
)

log = logging.getLogger(__name__)

EVERY = 0.25  # seconds between two updates of a progress
KEPT_EVERY = 1.0  # seconds between two events with log lines
LINES = 100  # that one such event holds at most
LONGEST = 4_000  # characters of a line
CHECKPOINT = 64 * 1024  # bytes of JSON

_encode = msgspec.json.Encoder().encode


class Written(Protocol):
    """The attempt that reports: whose journal is written, and when."""

    journal: Journal
    attempt: int
    sequence: int
    is_writing: bool

    @property
    def id(self) -> str:
        """The job's."""
        ...


class Reports:
    """Those of one attempt; all of it runs on the worker's loop."""

    def __init__(self, attempt: Written, ps: Penstock, stages: tuple[str, ...] = ()) -> None:
        self._attempt = attempt
        self._stages = stages
        self._ps = ps
        self._update: UpdateProgress | None = None
        self._lines: list[LogLine] = []
        self._dropped = 0
        self._sending: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._writing: asyncio.Lock | None = None
        self._updates = 0
        self.has_progress = False

    def progress(self, percent: float, stage: str | None, message: str | None) -> None:
        """See `JobContext.progress`."""
        self._update = UpdateProgress(
            percent=min(max(float(percent), 0.0), 100.0), stage=stage, message=message
        )
        self.has_progress = True
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_updates(), name="job-progress")

    def log(self, message: str, level: str) -> None:
        """See `JobContext.log`."""
        line = LogLine(time=datetime.now(UTC), message=message[:LONGEST], level=level)
        if len(self._lines) >= LINES:
            self._dropped += 1
        else:
            self._lines.append(line)
        if self._keeping is None:
            self._keeping = asyncio.create_task(self._keep_lines(), name="job-log")
        self._keeping_live(line)

    async def save(self, value: Any) -> None:
        """See `JobContext.save_checkpoint`."""
        size = len(_encode(value))
        if size > CHECKPOINT:
            raise TooLarge(
                f"The checkpoint has {size} bytes and may have {CHECKPOINT}; "
                "store it elsewhere and save where."
            )
        await self._store(JobCheckpointed(attempt=self._attempt.attempt, checkpoint=value))

    async def close(self, end: End) -> End:
        """Send what is left; the end of the job as it is to be stored."""
        await asyncio.sleep(0)  # what other threads said before they ended
        for task in (self._sending, self._keeping):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        try:
            await self._update_progress()
            await self._store_lines()
        except PenstockError as error:
            log.warning("job %s: what it said last is lost: %s", self._attempt.id, error)
        if self.has_progress and isinstance(end, JobCompleted | JobFailed):
            return replace(end, progress=True)
        return end

    # -- progress ----------------------------------------------------------------------------

    async def _send_updates(self) -> None:
        while self._update is not None:
            try:
                await self._update_progress()
            except PenstockError as error:
                log.warning("the progress of job %s is not told: %s", self._attempt.id, error)
            await asyncio.sleep(EVERY)
        self._sending = None

    async def _update_progress(self) -> None:
        update, self._update = self._update, None
        if update is None:
            return
        id, session = self._attempt.id, self._ps.session
        try:
            if not self._updates:
                create = CreateProgress(stages=self._stages, metadata={"job": id})
                await session.command(create, id=id, command_id=f"{id}:progress")
            self._updates += 1
            await session.command(update, id=id)
        except PenstockError:
            self._keep(update)
            raise

    def _keep(self, update: UpdateProgress) -> None:
        """Send it the next time, unless there is a newer one by then."""
        if self._update is None:
            self._update = update

    # -- the log -----------------------------------------------------------------------------

    def _keeping_live(self, line: LogLine) -> None:
        subjects = self._ps.session.bus.subjects
        subject = subjects.live(SERVICE, self._attempt.id)
        task = asyncio.ensure_future(self._ps.session.bus.publish(subject, _encode(line)))
        task.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _keep_lines(self) -> None:
        while self._lines:
            await asyncio.sleep(KEPT_EVERY)
            try:
                await self._store_lines()
            except PenstockError as error:
                log.warning("the log of job %s is not kept: %s", self._attempt.id, error)
        self._keeping = None

    async def _store_lines(self) -> None:
        lines, self._lines = tuple(self._lines), []
        dropped, self._dropped = self._dropped, 0
        if lines:
            await self._store(
                JobLogged(attempt=self._attempt.attempt, lines=lines, dropped=dropped)
            )

    async def _store(self, event: JobLogged | JobCheckpointed) -> None:
        if self._writing is None:
            self._writing = asyncio.Lock()
        async with self._writing:
            # Not to be cut off between storing and knowing where: the end stands behind it.
            await asyncio.shield(asyncio.ensure_future(self._stored(event)))

    async def _stored(self, event: JobLogged | JobCheckpointed) -> None:
        attempt = self._attempt
        attempt.is_writing = True
        try:
            await attempt.journal.store((event,))
            attempt.sequence = attempt.journal.head.sequence
        except Conflict as error:
            raise LeaseLost(f"The job {attempt.id} is no longer this attempt's.") from error
        finally:
            attempt.is_writing = False


async def end_progress(ps: Penstock, id: str, end: JobCompleted | JobFailed | JobCancelled) -> None:
    """End the progress of a job as the job ended. Raises Unavailable; may run again."""
    command = _ending(end)
    await ps.session.post(command, id=id, command_id=f"{id}:progress:{type(end).__name__}")


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
