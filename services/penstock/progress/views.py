"""The list of progresses by state; each one's state is kept by the frame. Never decides."""

from __future__ import annotations

from collections.abc import Sequence

import apsw
import msgspec

from penstock.contracts.progress import ListProgress, ProgressState
from penstock.infra.queries import Query
from penstock.infra.views.view import Folded, View

_decode = msgspec.json.Decoder(ProgressState).decode


class ProgressView(View[ProgressState]):
    """One row for each progress that is not cleaned up."""

    schema = """
    CREATE TABLE listed (
        id TEXT PRIMARY KEY, state TEXT NOT NULL, created TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX listed_by_state ON listed (state, created DESC);
    CREATE INDEX listed_by_time ON listed (created DESC);
    """

    def fold(self, db: apsw.Connection, folded: Sequence[Folded[ProgressState]]) -> None:
        """See View.fold."""
        last = {f.event.subject: f.state for f in folded}
        db.executemany(
            # Most events change neither: then the indexes stay as they are.
            """INSERT INTO listed VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE
               SET state = excluded.state, created = excluded.created
               WHERE state <> excluded.state OR created <> excluded.created""",
            (
                (state.id, state.state, state.created.isoformat())
                for state in last.values()
                if not state.cleaned_up
            ),
        )
        db.executemany(
            "DELETE FROM listed WHERE id = ?",
            ((state.id,) for state in last.values() if state.cleaned_up),
        )

    def forget(self, db: apsw.Connection, ids: Sequence[str]) -> None:
        """See View.forget."""
        db.executemany("DELETE FROM listed WHERE id = ?", ((id,) for id in ids))


def listed(db: apsw.Connection, params: ListProgress) -> list[ProgressState]:
    """Newest first; `before` is the `created` of the last one of the page before."""
    rows = db.execute(
        """SELECT aggregate.state FROM listed JOIN aggregate USING (id)
           WHERE (:state IS NULL OR listed.state = :state)
             AND (:before IS NULL OR created < :before)
           ORDER BY created DESC LIMIT :limit""",
        {"state": params.state, "before": params.before, "limit": params.limit},
    )
    return [_decode(body) for (body,) in rows]


QUERIES = [
    Query(
        name="list",
        path="/progress",
        params=ListProgress,
        returns=list[ProgressState],
        read=listed,
        summary="Progresses by state, newest first",
    )
]
