"""Jobs that failed and that nobody has discarded yet. Never redrives any."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import apsw
import msgspec

from penstock.contracts.job_reads import DeadCount, ListDead
from penstock.contracts.job_state import JobState
from penstock.infra.queries import Query
from penstock.jobs.job_lists import page

_DEAD = "listed.state = 'failed' AND listed.discarded = 0"
_FILTERS = ("error", "name", "queue", "cause")


def dead(db: apsw.Connection, params: ListDead) -> list[JobState]:
    """Newest first; `before` is the id of the last one of the page before. Raises NotFound."""
    # Redundant, and lets the index by state in.
    where = [_DEAD, "listed.state <> 'completed'"]
    where += [f"listed.{column} = :{column}" for column in _FILTERS if getattr(params, column)]
    return page(db, where, {}, msgspec.structs.asdict(params))


def counts(db: apsw.Connection, params: ListDead) -> list[DeadCount]:
    """How many of each class of error, the most first."""
    fits = [f"listed.{column} = :{column}" for column in _FILTERS if getattr(params, column)]
    rows = db.execute(
        f"""SELECT coalesce(error, ''), count(*), min(created), max(created) FROM listed
            WHERE {" AND ".join([_DEAD, *fits])} GROUP BY 1 ORDER BY 2 DESC, 1""",
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
        name="dead-counts",
        path="/jobs/dead/counts",
        params=ListDead,
        returns=list[DeadCount],
        read=counts,
        summary="How many of these there are of each class of error",
    ),
]
