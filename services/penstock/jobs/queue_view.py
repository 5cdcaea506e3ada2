"""The list of queues that something was said about, and of what waits in one. Never decides."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import apsw
import msgspec

from penstock.contracts.queues import ListQueues, QueueState
from penstock.infra.queries import Query
from penstock.infra.views.view import Folded, View

PAGE = 500  # waiting jobs
Place = tuple[float, str]  # of a job in the order of time: when it was made, and its id
LAST: Place = (float("inf"), "")

_decode = msgspec.json.Decoder(QueueState).decode


class QueueView(View[QueueState]):
    """One row for each queue with an aggregate."""

    schema = """
    CREATE TABLE queue (id TEXT PRIMARY KEY, name TEXT NOT NULL) WITHOUT ROWID;
    CREATE INDEX queue_by_name ON queue (name);
    """

    def fold(self, db: apsw.Connection, folded: Sequence[Folded[QueueState]]) -> None:
        """See View.fold."""
        last = {one.event.subject: one.state for one in folded}
        db.executemany(
            "INSERT OR REPLACE INTO queue VALUES (?, ?)",
            ((id, state.name) for id, state in last.items()),
        )

    def forget(self, db: apsw.Connection, ids: Sequence[str]) -> None:
        """See View.forget."""
        db.executemany("DELETE FROM queue WHERE id = ?", ((id,) for id in ids))


def listed(db: apsw.Connection, params: ListQueues) -> list[QueueState]:
    """By name; `after` is the name of the last one of the page before."""
    rows = db.execute(
        """SELECT aggregate.state FROM queue JOIN aggregate USING (id)
           WHERE name > :after ORDER BY name LIMIT :limit""",
        {"after": params.after, "limit": params.limit},
    )
    return [_decode(body) for (body,) in rows]


def every(db: apsw.Connection) -> list[tuple[int, QueueState]]:
    """All of them, each with the sequence of its last event."""
    # In this order: there are few queues, and very many aggregates.
    rows = db.execute("SELECT sequence, aggregate.state FROM queue CROSS JOIN aggregate USING (id)")
    return [(sequence, _decode(body)) for sequence, body in rows]


def one(db: apsw.Connection, id: str) -> QueueState | None:
    """One of them, if something was said about it."""
    row = db.execute("SELECT state FROM aggregate WHERE id = ?", (id,)).fetchone()
    return _decode(row[0]) if row else None


def waiting(db: apsw.Connection, queue: str, until: datetime, before: Place) -> list[Place]:
    """A page of places, newest first and before `before`, of jobs in a queue that wait since
    `until` or longer.

    Those that were cancelled since are among them: perhaps by one who died before all was done.
    """
    return [
        (created, id)
        for created, id in db.execute(
            """SELECT created, id FROM listed JOIN aggregate USING (id)
               WHERE (created, id) < (?, ?) AND created <= ? AND queue = ?
                 AND (listed.state IN ('pending', 'retrying') OR listed.state = 'cancelled'
                      AND unixepoch(CAST(aggregate.state AS TEXT) ->> '$.ended') >= ?)
               ORDER BY created DESC, id DESC LIMIT ?""",
            (*before, until.timestamp(), queue, int(until.timestamp()), PAGE),
        )
    ]


QUERIES: list[Query[Any]] = [
    Query(
        name="queue-states",
        path="/jobs/queue-states",
        params=ListQueues,
        returns=list[QueueState],
        read=listed,
        summary="Queues that are or were paused or drained, or whose tenants have weights",
    ),
]
