"""Questions about workers and the names that they can do. Never changes anything."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import apsw
import msgspec

from penstock.contracts.answers import Question
from penstock.contracts.job_reads import HandlerSeen, WorkerSeen
from penstock.contracts.workers import HandlerInfo
from penstock.infra.queries import Query
from penstock.jobs.workers import Workers


def queries(workers: Workers) -> list[Query[Any]]:
    """The questions, answered from the table and what waits in the view."""
    return [
        Query(
            name="workers",
            path="/jobs/workers",
            params=Question,
            returns=list[WorkerSeen],
            read=lambda _db, _params: workers.seen(),
            summary="Workers: what they run, their versions, their last signs of life",
        ),
        Query(
            name="handlers",
            path="/jobs/handlers",
            params=Question,
            returns=list[HandlerSeen],
            read=lambda db, _params: _handlers(workers, db),
            summary="Names of jobs: who can do them, what waits for them, also where nobody can",
        ),
    ]


def waiting(db: apsw.Connection) -> dict[str, int]:
    """How many jobs of each name wait."""
    rows: Iterable[Any] = db.execute(
        """SELECT name, SUM(count) FROM counted WHERE size = 86400 AND what IN ('p', 'w')
           GROUP BY name HAVING SUM(count) > 0"""
    )
    return dict(rows)


def _handlers(workers: Workers, db: apsw.Connection) -> list[HandlerSeen]:
    known, wait = workers.handlers(), waiting(db)
    return [
        _handler(name, known.get(name, []), wait.get(name, 0))
        for name in sorted(known.keys() | wait.keys())
    ]


def _handler(name: str, who: list[tuple[str, HandlerInfo]], waiting: int) -> HandlerSeen:
    payloads = {msgspec.json.encode(one.payload): one.payload for _, one in who if one.payload}
    return HandlerSeen(
        name=name,
        workers=tuple(sorted(worker for worker, _ in who)),
        lanes=tuple(sorted({one.lane for _, one in who})),
        payloads=tuple(payloads.values()),
        waiting=waiting,
    )
