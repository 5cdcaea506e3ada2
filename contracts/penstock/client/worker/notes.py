"""Stores what is noted amid an attempt, one event behind the other. Never decides what to note."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from penstock.client.worker.journal import Journal
from penstock.contracts.errors import Conflict, LeaseLost, Unavailable
from penstock.contracts.jobs import JobCheckpointed, JobLogged

log = logging.getLogger(__name__)

RETRY = 0.2  # seconds until an event is stored again while the server is away
Note = JobLogged | JobCheckpointed


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


class Notes:
    """Those of one attempt."""

    def __init__(self, attempt: Written) -> None:
        self.attempt = attempt
        self._writing: asyncio.Task[None] | None = None

    async def store(self, event: Note) -> None:
        """Store an event behind those before it. Goes on by itself when the caller is cut off:
        otherwise nobody knew where the end stands. Raises LeaseLost.
        """
        self._writing = asyncio.ensure_future(self._in_turn(self._writing, event))
        self._writing.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(self._writing)

    async def wait(self) -> None:
        """Until what is on its way is stored, or refused."""
        if self._writing is not None:
            await asyncio.wait({self._writing})

    async def _in_turn(self, before: asyncio.Task[None] | None, event: Note) -> None:
        if before is not None:
            await asyncio.wait({before})
        await self._stored(event)

    async def _stored(self, event: Note) -> None:
        attempt = self.attempt
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
