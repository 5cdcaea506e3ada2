"""Jobs that failed and that nobody has discarded yet. Never redrives any."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import apsw
import msgspec

from penstock.contracts.job_reads import DeadCount, ListDead
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs_bulk import JobAt
from penstock.infra.queries import Query
from penstock.jobs.job_lists import bounded, rows_of

_DEAD = "listed.state = 'failed' AND listed.discarded = 0"
_FILTERS = ("error", "name", "queue", "cause")


def dead(db: apsw.Connection, params: ListDead) -> list[JobState]:
    """Newest first; `before` is the id of the last one of the page before. Raises NotFound."""
    return bounded(_rows(db, "aggregate.state", params))


def dead_at(db: apsw.Connection, params: ListDead) -> list[JobAt]:
    """The same in few words, for those who change them. Raises NotFound."""
    found = _rows(db, "aggregate.id, aggregate.sequence", params)
    return [JobAt(id=id, sequence=sequence) for id, sequence in found]


def _rows(db: apsw.Connection, what: str, params: ListDead) -> Iterable[Any]:
    """From an index that has all that is asked for: none of the others has to be looked at."""
    index = f"INDEXED BY {'dead' if params.error else 'dead_by_time'}"
    where = [_DEAD, *_fits(params)]
    return rows_of(db, what, where, {}, msgspec.structs.asdict(params), index=index)


def _fits(params: ListDead) -> list[str]:
    return [f"listed.{column} = :{column}" for column in _FILTERS if getattr(params, column)]


def counts(db: apsw.Connection, params: ListDead) -> list[DeadCount]:
    """How many of each class of error, the most first."""
    where = " AND ".join([_DEAD, *_fits(params)])
    rows = db.execute(
        f"""SELECT coalesce(error, ''), count(*), min(created), max(created)
            FROM listed INDEXED BY dead WHERE {where} GROUP BY 1 ORDER BY 2 DESC, 1""",
        msgspec.structs.asdict(params),
    )
    return [
        DeadCount(error=error, count=count, oldest=_time(oldest), newest=_time(newest))
        for error, count, oldest, newest in rows
    ]


def _time(stamp: float) -> datetime:
    return datetime.fromtimestamp(stamp, UTC)


QUERIES: list[Query[Any]] = [
    Query(
        name="dead",
        path="/jobs/dead",
        params=ListDead,
        returns=list[JobState],
        read=dead,
        summary="Jobs that failed and were not discarded, by class of error, name, queue, cause",
    ),
    Query(
        name="dead-at",
        path="/jobs/dead/at",
        params=ListDead,
        returns=list[JobAt],
        read=dead_at,
        summary="The ids of these, each with its last sequence, as RedriveJobs takes them",
    ),
    Query(
        name="dead-counts",
        path="/jobs/dead/counts",
        params=ListDead,
        returns=list[DeadCount],
        read=counts,
        summary="How many of these there are of each class of error",
    ),
]
