"""The list of schedules and their next ticks; each state is kept by the frame. Never decides."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import apsw
import msgspec

from penstock.contracts.errors import NotFound
from penstock.contracts.schedules import (
    ListSchedules,
    ScheduleState,
    ShownSchedule,
    ShowSchedule,
    schedule_id,
)
from penstock.infra import clock
from penstock.infra.queries import Query
from penstock.infra.views.view import Folded, View
from penstock.jobs.schedule_ticks import upcoming

_decode = msgspec.json.Decoder(ScheduleState).decode


class ScheduleView(View[ScheduleState]):
    """One row for each schedule that is not deleted."""

    schema = """
    CREATE TABLE schedule (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, paused INTEGER NOT NULL, next REAL
    ) WITHOUT ROWID;
    CREATE INDEX schedule_by_name ON schedule (name);
    CREATE INDEX schedule_by_next ON schedule (next) WHERE next IS NOT NULL;
    """

    def fold(self, db: apsw.Connection, folded: Sequence[Folded[ScheduleState]]) -> None:
        """See View.fold."""
        last = {one.event.subject: one.state for one in folded}
        self.forget(db, [id for id, state in last.items() if state.deleted])
        db.executemany(
            "INSERT OR REPLACE INTO schedule VALUES (?, ?, ?, ?)",
            (
                (id, state.name, state.paused, state.next.timestamp() if state.next else None)
                for id, state in last.items()
                if not state.deleted
            ),
        )

    def forget(self, db: apsw.Connection, ids: Sequence[str]) -> None:
        """See View.forget."""
        db.executemany("DELETE FROM schedule WHERE id = ?", ((id,) for id in ids))


def listed(db: apsw.Connection, params: ListSchedules) -> list[ScheduleState]:
    """By name; `after` is the name of the last one of the page before."""
    rows = db.execute(
        """SELECT aggregate.state FROM schedule JOIN aggregate USING (id)
           WHERE name > :after AND (:paused IS NULL OR paused = :paused)
           ORDER BY name LIMIT :limit""",
        {"after": params.after, "paused": params.paused, "limit": params.limit},
    )
    return [_decode(body) for (body,) in rows]


def shown(db: apsw.Connection, params: ShowSchedule) -> ShownSchedule:
    """One, and its ticks to come. Raises NotFound."""
    id = schedule_id(params.name)
    row = db.execute("SELECT state FROM aggregate WHERE id = ?", (id,)).fetchone()
    schedule = _decode(row[0]) if row else None
    if schedule is None or schedule.deleted:
        raise NotFound(f"There is no schedule {params.name!r}.", id=id)
    begin = clock.now() if schedule.paused else schedule.after
    ticks = upcoming(schedule.timing, params.after or begin)
    return ShownSchedule(schedule=schedule, next_runs=tuple(islice(ticks, params.next)))


def ids(db: apsw.Connection, after: str) -> list[str]:
    """The schedules that are not deleted, a page behind the id `after`."""
    rows = db.execute("SELECT id FROM schedule WHERE id > ? ORDER BY id LIMIT 1000", (after,))
    return [id for (id,) in rows]


def overdue(db: apsw.Connection, before: float) -> list[str]:
    """Schedules whose next tick was before a Unix time, the oldest hundred."""
    rows = db.execute("SELECT id FROM schedule WHERE next < ? ORDER BY next LIMIT 100", (before,))
    return [id for (id,) in rows]


QUERIES: list[Query[Any]] = [
    Query(
        name="schedules",
        path="/jobs/schedules",
        params=ListSchedules,
        returns=list[ScheduleState],
        read=listed,
        summary="Schedules by name: when they run next, what last came of them",
    ),
    Query(
        name="schedule",
        path="/jobs/schedules/{name}",
        params=ShowSchedule,
        returns=ShownSchedule,
        read=shown,
        summary="One schedule and the times of its next runs",
    ),
]
