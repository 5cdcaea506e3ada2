"""Lists of workflows; each one's state is kept by the frame. Never decides."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import apsw
import msgspec

from penstock.contracts.workflow_state import ListWorkflows, WorkflowState
from penstock.infra.queries import Query
from penstock.infra.views.view import Folded, View

_decode = msgspec.json.Decoder(WorkflowState).decode


class WorkflowView(View[WorkflowState]):
    """One row for each workflow."""

    schema = """
    CREATE TABLE workflow (
        id TEXT PRIMARY KEY, state TEXT NOT NULL, created REAL NOT NULL, moved REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX workflow_by_time ON workflow (created, id);
    CREATE INDEX workflow_by_state ON workflow (state, created, id);
    CREATE INDEX workflow_under_way ON workflow (id, moved) WHERE state = 'processing';
    """

    def fold(self, db: apsw.Connection, folded: Sequence[Folded[WorkflowState]]) -> None:
        """See View.fold."""
        last = {f.event.subject: f for f in folded}
        db.executemany(
            "INSERT OR REPLACE INTO workflow VALUES (?, ?, ?, ?)",
            (_row(one.state, one.event.time) for one in last.values()),
        )

    def forget(self, db: apsw.Connection, ids: Sequence[str]) -> None:
        """See View.forget."""
        db.executemany("DELETE FROM workflow WHERE id = ?", ((id,) for id in ids))


def _row(state: WorkflowState, moved: datetime) -> tuple[str, str, float, float]:
    return state.id, state.state, state.created.timestamp(), moved.timestamp()


def under_way(db: apsw.Connection, after: str) -> list[str]:
    """The next workflows under way behind an id."""
    rows = db.execute(
        "SELECT id FROM workflow WHERE state = 'processing' AND id > ? ORDER BY id LIMIT 1000",
        (after,),
    )
    return [id for (id,) in rows]


def unmoved(db: apsw.Connection, asked: tuple[float, str]) -> list[WorkflowState]:
    """Those under way that had no event since a Unix time, the next hundred behind an id."""
    rows = db.execute(
        """SELECT aggregate.state FROM workflow JOIN aggregate USING (id)
           WHERE workflow.state = 'processing' AND moved < ? AND id > ? ORDER BY id LIMIT 100""",
        asked,
    )
    return [_decode(body) for (body,) in rows]


def unfinished(db: apsw.Connection, ids: Sequence[str]) -> int:
    """How many of these jobs wait or run."""
    rows = db.execute(
        """SELECT count(*) FROM json_each(?) AS wanted JOIN listed ON listed.id = wanted.value
           WHERE listed.state IN ('pending', 'retrying', 'processing')""",
        (msgspec.json.encode(ids).decode(),),
    )
    return int(next(iter(rows))[0])


def listed(db: apsw.Connection, params: ListWorkflows) -> list[WorkflowState]:
    """Newest first; `before` is the id of the last one of the page before."""
    rows = db.execute(
        """SELECT aggregate.state FROM workflow JOIN aggregate USING (id)
           WHERE (:state IS NULL OR workflow.state = :state)
             AND (:before IS NULL
                  OR (created, id) < (SELECT created, id FROM workflow WHERE id = :before))
           ORDER BY created DESC, id DESC LIMIT :limit""",
        {"state": params.state, "before": params.before, "limit": params.limit},
    )
    return [_decode(body) for (body,) in rows]


QUERIES: list[Query[Any]] = [
    Query(
        name="workflows",
        path="/jobs/workflows",
        params=ListWorkflows,
        returns=list[WorkflowState],
        read=listed,
        summary="Workflows by state, newest first",
    ),
]
