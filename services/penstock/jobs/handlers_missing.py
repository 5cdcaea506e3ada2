"""Fails jobs that asked for it and wait though no worker anywhere knows their name.

Several instances may look: the command's id follows from the job and when it began to wait.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import apsw

from penstock.contracts.answers import Outcome
from penstock.contracts.envelope import Envelope, wrap
from penstock.contracts.errors import Archived, Erased, NotFound, Refused
from penstock.infra.repeated import Repeated
from penstock.infra.views.live_view import LiveView
from penstock.jobs.job_endings import unhandled
from penstock.jobs.workers import Workers
from penstock.jobs.workers_view import waiting

log = logging.getLogger(__name__)

PAGE = 500
Waiting = tuple[str, int, str]  # a job's id, when it could be run (milliseconds), its flow


class Unhandled:
    """Looks for the names that nobody had for `grace` seconds, in the view that `model` gives."""

    def __init__(
        self,
        model: Callable[[], LiveView[Any]],
        workers: Workers,
        handle: Callable[[Envelope], Awaitable[Outcome]],
        *,
        grace: float,
    ) -> None:
        self._model = model
        self._workers = workers
        self._handle = handle
        self._grace = grace

    def part(self) -> Repeated:
        """The part of the service that looks again and again."""
        every = max(0.1, self._grace / 4)
        return Repeated("search for jobs that nobody can do", self.look, every=every, first=every)

    async def look(self) -> None:
        """Look once. Raises Unavailable."""
        _, names = await self._model().read(waiting)
        for name in names.keys() - self._workers.handlers().keys():
            if self._workers.missing_for(name) > self._grace:
                await self._fail_all(name)

    async def _fail_all(self, name: str) -> None:
        before = int((time.time() - self._grace) * 1000)
        after: tuple[int, str] = (0, "")
        while True:
            _, found = await self._model().read(_unhandled, name, before, after)
            for job in found:
                await self._fail(name, job)
            if len(found) < PAGE:
                return
            after = (found[-1][1], found[-1][0])

    async def _fail(self, name: str, job: Waiting) -> None:
        id, due, flow = job
        command = wrap(
            unhandled(name, self._grace),
            id=f"{id}:{due}:unhandled",
            subject=id,
            time=datetime.now(UTC),
            correlationid=flow,
        )
        try:
            await self._handle(command)
        except (NotFound, Refused, Archived, Erased) as refusal:  # others were quicker
            log.info("%r is left as it is: %s", id, refusal)


def _unhandled(
    db: apsw.Connection, name: str, before: int, after: tuple[int, str]
) -> list[Waiting]:
    rows: Iterable[Any] = db.execute(
        """SELECT id, due, CAST(aggregate.state AS TEXT) ->> '$.correlationid'
           FROM label JOIN listed USING (id) JOIN aggregate USING (id)
           WHERE what = 'unhandled' AND value = ? AND listed.state IN ('pending', 'retrying')
             AND due < ? AND (due, id) > (?, ?) ORDER BY due, id LIMIT ?""",
        (name, before, *after, PAGE),
    )
    return list(rows)
