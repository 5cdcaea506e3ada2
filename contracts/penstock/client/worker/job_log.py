"""The log lines of a job: heard live, and kept together in its history once a second.

Never looks at what they say.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

import msgspec

from penstock.client.penstock import Penstock
from penstock.client.worker.described import clean
from penstock.client.worker.notes import Notes
from penstock.contracts.errors import PenstockError
from penstock.contracts.jobs import SERVICE, JobLogged, LogLine

log = logging.getLogger(__name__)

KEPT_EVERY = 1.0  # seconds between two events with log lines
LINES = 100  # that one such event holds at most
MOST_BYTES = 256 * 1024  # that one such event holds at most
LONGEST = 4_000  # characters of a line
MOST_SPOKEN = 1_000  # lines on their way to those who listen now

_encode = msgspec.json.Encoder().encode


class JobLog:
    """The lines of one attempt."""

    def __init__(self, notes: Notes, ps: Penstock) -> None:
        self._notes = notes
        self._ps = ps
        self._lines: list[LogLine] = []
        self._bytes = 0
        self._dropped = 0
        self._spoken = 0
        self.keeping: asyncio.Task[None] | None = None

    def add(self, message: str, level: str) -> None:
        """Say a line, and keep it unless there are too many by now."""
        line = LogLine(time=datetime.now(UTC), message=clean(message)[:LONGEST], level=level)
        body = _encode(line)
        if len(self._lines) >= LINES or self._bytes + len(body) > MOST_BYTES:
            self._dropped += 1
        else:
            self._lines.append(line)
            self._bytes += len(body)
        if self.keeping is None:
            self.keeping = asyncio.create_task(self._keep(), name="job-log")
        self._say(body)

    async def store(self) -> None:
        """Keep what is left now. Raises LeaseLost."""
        lines, self._lines, self._bytes = tuple(self._lines), [], 0
        dropped, self._dropped = self._dropped, 0
        if lines:
            attempt = self._notes.attempt.attempt
            await self._notes.store(JobLogged(attempt=attempt, lines=lines, dropped=dropped))

    async def _keep(self) -> None:
        while self._lines:
            await asyncio.sleep(KEPT_EVERY)
            try:
                await self.store()
            except PenstockError as error:
                log.warning("the log of job %s is not kept: %s", self._notes.attempt.id, error)
        self.keeping = None

    def _say(self, body: bytes) -> None:
        if self._spoken >= MOST_SPOKEN:
            return
        bus = self._ps.session.bus
        subject = bus.subjects.live(SERVICE, self._notes.attempt.id)
        task = asyncio.ensure_future(bus.publish(subject, body))
        self._spoken += 1
        task.add_done_callback(self._said)

    def _said(self, task: asyncio.Task[None]) -> None:
        self._spoken -= 1
        if not task.cancelled():
            task.exception()  # nobody may hear it, and it is stored as well
