"""Lists of jobs and the depth of queues; each job's state is kept by the frame. Never decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw
import msgspec

from penstock.contracts.answers import Question
from penstock.contracts.job_state import JobState, ListJobs, QueueDepth
from penstock.infra.queries import Query
from penstock.infra.views import rows
from penstock.infra.views.view import Folded, View

_decode = msgspec.json.Decoder(JobState).decode


class JobView(View[JobState]):
    """One row for each job."""

    schema = """
    CREATE TABLE listed (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, queue TEXT NOT NULL, priority INTEGER NOT NULL,
        state TEXT NOT NULL, run_at REAL, created REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX listed_by_time ON listed (created, id);
    CREATE INDEX listed_by_state ON listed (state, created, id);
    CREATE INDEX listed_by_name ON listed (name, created, id);
    CREATE INDEX unfinished ON listed (queue, priority, state, run_at)
        WHERE state IN ('pending', 'retrying', 'processing');
    """

    def fold(self, db: apsw.Connection, folded: Sequence[Folded[JobState]]) -> None:
        """See View.fold."""
        last = {f.event.subject: f.state for f in folded}
        rows.insert(
            db,
            "INTO listed",
            [
                (
                    job.id,
                    job.name,
                    job.queue,
                    job.priority,
                    job.state,
                    job.run_at.timestamp() if job.run_at else None,
                    job.created.timestamp(),
                )
                for job in last.values()
            ],
            # The rest never changes: written anew, each of its indexes would be too.
            then="ON CONFLICT (id) DO UPDATE SET state = excluded.state, run_at = excluded.run_at",
        )

    def forget(self, db: apsw.Connection, ids: Sequence[str]) -> None:
        """See View.forget."""
        rows.delete(db, "listed WHERE id", ids)


def listed(db: apsw.Connection, params: ListJobs) -> list[JobState]:
    """Newest first; `before` is the id of the last one of the page before."""
    rows = db.execute(
        """SELECT aggregate.state FROM listed JOIN aggregate USING (id)
           WHERE (:state IS NULL OR listed.state = :state)
             AND (:queue IS NULL OR queue = :queue)
             AND (:name IS NULL OR name = :name)
             AND (:before IS NULL
                  OR (created, id) < (SELECT created, id FROM listed WHERE id = :before))
           ORDER BY created DESC, id DESC LIMIT :limit""",
        {
            "state": params.state,
            "queue": params.queue,
            "name": params.name,
            "before": params.before,
            "limit": params.limit,
        },
    )
    return [_decode(body) for (body,) in rows]


def depths(db: apsw.Connection, _: Question) -> list[QueueDepth]:
    """Each queue and priority that has unfinished jobs, highest priority first."""
    rows = db.execute(
        """SELECT queue, priority,
                  SUM(state <> 'processing' AND coalesce(run_at, 0) <= unixepoch('subsec')),
                  SUM(state <> 'processing' AND coalesce(run_at, 0) > unixepoch('subsec')),
                  SUM(state = 'processing')
           FROM listed WHERE state IN ('pending', 'retrying', 'processing')
           GROUP BY queue, priority ORDER BY queue, priority DESC"""
    )
    return [
        QueueDepth(
            queue=queue, priority=priority, waiting=waiting, delayed=delayed, processing=processing
        )
        for queue, priority, waiting, delayed, processing in rows
    ]


QUERIES: list[Query[Any]] = [
    Query(
        name="list",
        path="/jobs",
        params=ListJobs,
        returns=list[JobState],
        read=listed,
        summary="Jobs by state, queue and name, newest first",
    ),
    Query(
        name="queues",
        path="/jobs/queues",
        params=Question,
        returns=list[QueueDepth],
        read=depths,
        summary="How many jobs wait, are delayed and are processed, by queue and priority",
    ),
]
