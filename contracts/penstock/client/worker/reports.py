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
from penstock.client.session import state_of
from penstock.client.worker.decisions import End
from penstock.client.worker.described import clean
from penstock.client.worker.journal import Journal
from penstock.contracts.errors import (
    Conflict,
    LeaseLost,
    PenstockError,
    Timeout,
    TooLarge,
    Unavailable,
)
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
    CleanupProgress,
    CompleteProgress,
    CreateProgress,
    FailProgress,
    ProgressState,
    UpdateProgress,
)

log = logging.getLogger(__name__)

EVERY = 0.25  # seconds between two updates of a progress
KEPT_EVERY = 1.0  # seconds between two events with log lines
LINES = 100  # that one such event holds at most
MOST_BYTES = 256 * 1024  # that one such event holds at most
LONGEST = 4_000  # characters of a line
MOST_SPOKEN = 1_000  # lines on their way to those who listen now
RETRY = 0.2  # seconds until an event is stored again while the server is away
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
        self._attempt = attempt
        self._stages = stages
        self._ps = ps
        self._update: UpdateProgress | None = None
        self._lines: list[LogLine] = []
        self._dropped = 0
        self._sending: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._writing: asyncio.Task[None] | None = None
        self._is_made = False
        self._spoken = 0
        self._bytes = 0
        self.has_progress = has_progress

    def progress(self, percent: float, stage: str | None, message: str | None) -> None:
        """See `JobContext.progress`."""
        self._update = UpdateProgress(
            percent=min(max(float(percent), 0.0), 100.0), stage=stage, message=message
        )
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_updates(), name="job-progress")

    def log(self, message: str, level: str) -> None:
        """See `JobContext.log`."""
        line = LogLine(time=datetime.now(UTC), message=clean(message)[:LONGEST], level=level)
        size = len(_encode(line))
        if len(self._lines) >= LINES or self._bytes + size > MOST_BYTES:
            self._dropped += 1
        else:
            self._lines.append(line)
            self._bytes += size
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
        if self._writing is not None:
            await asyncio.wait({self._writing})
        if self.has_progress and isinstance(end, JobCompleted | JobFailed):
            return replace(end, progress=True)
        return end

    async def drop(self) -> None:
        """Send nothing more: the job is not this attempt's."""
        for task in (self._sending, self._keeping):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

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
        try:
            if not self._is_made:
                await self._make()
                self._is_made = True
            await self._ps.session.command(update, id=self._attempt.id)
        except (Unavailable, Timeout, asyncio.CancelledError):
            self._keep(update)
            raise

    async def _make(self) -> None:
        """Make the progress; anew if it ended with an earlier run of the job.

        The job's events tell first that there is one, so that it is ended whoever ends the job.
        """
        if not self.has_progress:
            await self._store(JobLogged(attempt=self._attempt.attempt, progress=True))
            self.has_progress = True
        id, session = self._attempt.id, self._ps.session
        create = CreateProgress(stages=self._stages, metadata={"job": id})
        made = state_of(await session.command(create, id=id), ProgressState)
        if made.is_over:
            await session.command(CleanupProgress(), id=id)
            await session.command(create, id=id)

    def _keep(self, update: UpdateProgress) -> None:
        """Send it the next time, unless there is a newer one by then."""
        if self._update is None:
            self._update = update

    # -- the log -----------------------------------------------------------------------------

    def _keeping_live(self, line: LogLine) -> None:
        if self._spoken >= MOST_SPOKEN:
            return
        subjects = self._ps.session.bus.subjects
        subject = subjects.live(SERVICE, self._attempt.id)
        task = asyncio.ensure_future(self._ps.session.bus.publish(subject, _encode(line)))
        self._spoken += 1
        task.add_done_callback(self._said)

    def _said(self, task: asyncio.Task[None]) -> None:
        self._spoken -= 1
        if not task.cancelled():
            task.exception()  # nobody may hear it, and it is stored as well

    async def _keep_lines(self) -> None:
        while self._lines:
            await asyncio.sleep(KEPT_EVERY)
            try:
                await self._store_lines()
            except PenstockError as error:
                log.warning("the log of job %s is not kept: %s", self._attempt.id, error)
        self._keeping = None

    async def _store_lines(self) -> None:
        lines, self._lines, self._bytes = tuple(self._lines), [], 0
        dropped, self._dropped = self._dropped, 0
        if lines:
            await self._store(
                JobLogged(attempt=self._attempt.attempt, lines=lines, dropped=dropped)
            )

    async def _store(self, event: JobLogged | JobCheckpointed) -> None:
        """Store an event behind those before it. Goes on by itself when the caller is cut off:
        otherwise nobody knew where the end stands.
        """
        self._writing = asyncio.ensure_future(self._in_turn(self._writing, event))
        self._writing.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(self._writing)

    async def _in_turn(
        self, before: asyncio.Task[None] | None, event: JobLogged | JobCheckpointed
    ) -> None:
        if before is not None:
            await asyncio.wait({before})
        await self._stored(event)

    async def _stored(self, event: JobLogged | JobCheckpointed) -> None:
        attempt = self._attempt
        attempt.is_writing = True
        try:
            while True:
                try:
                    await attempt.journal.store((event,))
                    break
                except Unavailable as error:  # it may be stored: nothing else may follow before
                    log.warning("job %s cannot note something yet: %s", attempt.id, error)
                    await asyncio.sleep(RETRY)
            attempt.sequence = attempt.journal.head.sequence
        except Conflict as error:
            raise LeaseLost(f"The job {attempt.id} is no longer this attempt's.") from error
        finally:
            attempt.is_writing = False


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
