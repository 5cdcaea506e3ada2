"""A row for each job, what it is labelled with, and what all of them count. Never decides.

The questions about it are in `job_lists`, `job_metrics`, `stats`, `dead_jobs` and `estimates`.
"""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import JobQueued
from penstock.infra.views import rows
from penstock.infra.views.recent import Recent
from penstock.infra.views.view import Ended, Folded, View
from penstock.jobs import job_counts, job_counts_gone, job_steps
from penstock.jobs.job_moves import Move, Tally, milliseconds, next_move, read, written

# More than the last move takes.
LAST = 40
REMEMBERED = 20_000  # jobs whose last move is kept in memory: most move again soon

_UPDATE = """ON CONFLICT (id) DO UPDATE SET state = excluded.state, due = excluded.due,
    error = excluded.error, cause = excluded.cause, discarded = excluded.discarded,
    moves = moves || excluded.moves"""  # The rest never changes; nor do its indexes then.


class JobView(View[JobState]):
    """Each index costs all that is enqueued: the partial ones hold few of the jobs."""

    schema = (
        """
    CREATE TABLE listed (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, queue TEXT NOT NULL, priority INTEGER NOT NULL,
        state TEXT NOT NULL, due INTEGER NOT NULL, created REAL NOT NULL, error TEXT, cause TEXT,
        discarded INTEGER NOT NULL, moves TEXT NOT NULL
    );
    CREATE INDEX listed_by_time ON listed (created, id);
    CREATE INDEX listed_by_name ON listed (name, created, id);
    CREATE INDEX listed_by_queue ON listed (queue, created, id) WHERE queue <> 'default';
    CREATE INDEX listed_by_state ON listed (state, created, id) WHERE state <> 'completed';
    CREATE INDEX waiting ON listed (queue, priority, due, state)
        WHERE state IN ('pending', 'retrying');
    CREATE INDEX dead ON listed (error, created, id, queue, name, cause)
        WHERE state = 'failed' AND discarded = 0;
    CREATE INDEX dead_by_time ON listed (created, id, queue, name, cause)
        WHERE state = 'failed' AND discarded = 0;
    CREATE TABLE label (
        what TEXT NOT NULL, value TEXT NOT NULL, created REAL NOT NULL, id TEXT NOT NULL,
        PRIMARY KEY (what, value, created, id)
    ) WITHOUT ROWID;
    CREATE INDEX label_by_id ON label (id);
    """
        + job_counts.SCHEMA
        + job_steps.SCHEMA
    )

    def __init__(self) -> None:
        self._recent: dict[apsw.Connection, Recent[str, Move]] = {}

    def fold(self, db: apsw.Connection, folded: Sequence[Folded[JobState]]) -> None:
        """See View.fold."""
        recent = self._recent.setdefault(db, Recent(REMEMBERED))
        fold = _Fold(_last_moves(db, recent, folded))
        for one in folded:
            fold.take(one)
        last = {one.event.subject: one.state for one in folded}
        moves = fold.written
        rows.insert(
            db,
            "INTO listed",
            [_row(id, job, moves.get(id, ""), fold.moves[id].due) for id, job in last.items()],
            then=_UPDATE,
        )
        rows.insert(db, "OR IGNORE INTO label", fold.labels)
        _mark_unhandled(db, [job for job in last.values() if job.rules.if_unhandled == "fail"])
        job_counts.add(db, fold.tally.counts())
        job_counts.deepen(db, fold.tally.depths())
        job_counts.tick(db, fold.sequences)
        job_steps.add(db, fold.tally.steps())
        job_steps.thin_out(db)
        job_counts.thin_out(db)
        recent.put(fold.moves)

    def end(self, db: apsw.Connection, ended: Sequence[Ended]) -> None:
        """See View.end. What the jobs counted stays, until the tally of their command has it."""
        by_command: dict[str, list[str]] = {}
        for one in ended:
            by_command.setdefault(one.event.causationid or "", []).append(one.event.subject)
        if recent := self._recent.get(db):
            for one in ended:
                recent.drop(one.event.subject)
        for command, ids in by_command.items():
            gone = _tally(db, ids)
            job_counts.add(db, gone.counts(), sign=-1)
            job_counts_gone.leave(db, gone.counts(), command)
            job_counts.deepen(db, {key: -n for key, n in gone.depths().items()})
            rows.delete(db, "listed WHERE id", ids)
            rows.delete(db, "label WHERE id", ids)
        job_counts.thin_out(db)

    def release(self, db: apsw.Connection) -> None:
        """See View.release."""
        self._recent.pop(db, None)


class _Fold:
    """What a batch comes to; `moves` are the last ones of jobs before it."""

    def __init__(self, moves: dict[str, Move]) -> None:
        self.moves = moves
        self.written: dict[str, str] = {}
        self.tally = Tally()
        self.sequences: dict[int, int] = {}
        self.labels: list[tuple[str, str, float, str]] = []

    def take(self, one: Folded[JobState]) -> None:
        """Take one event more."""
        job = one.state
        id = job.id
        at = milliseconds(one.event.time)
        self.sequences[at // 1000] = one.sequence
        before = self.moves.get(id)
        after = next_move(before, job, one.data, at)
        if after is None:
            return
        self.moves[id] = after
        self.written[id] = self.written.get(id, "") + written(after)
        self.tally.add(job.queue, job.name, job.priority, before, after, one.sequence)
        if before is None and (job.tags or job.origin):
            self.labels += _labels(job)


def _tally(db: apsw.Connection, ids: Sequence[str]) -> Tally:
    """What jobs count for."""
    tally = Tally()
    what = "queue, name, priority, moves FROM listed WHERE id"
    for queue, name, priority, text in rows.select(db, what, ids):
        before = None
        for move in read(text):
            tally.add(queue, name, priority, before, move)
            before = move
    return tally


def _last_moves(
    db: apsw.Connection, recent: Recent[str, Move], folded: Sequence[Folded[JobState]]
) -> dict[str, Move]:
    """Of the jobs that were there before the batch."""
    new = {one.event.subject for one in folded if type(one.data) is JobQueued}
    old = {one.event.subject for one in folded} - new
    moves = {id: move for id in old if (move := recent.get(id)) is not None}
    what = f"id, substr(moves, -{LAST}) FROM listed WHERE id"
    for id, text in rows.select(db, what, old - moves.keys()):
        moves[id] = read(text)[-1]
    return moves


def _row(id: str, job: JobState, moves: str, due: int) -> rows.Row:
    return (
        id,
        job.name,
        job.queue,
        job.priority,
        job.state,
        due,
        job.created.timestamp(),
        job.error.type if job.error else None,
        job.cause,
        job.discarded,
        moves,
    )


def _labels(job: JobState) -> list[tuple[str, str, float, str]]:
    labels = [("tag", tag) for tag in dict.fromkeys(job.tags)]
    if origin := job.origin:
        for what in ("workflow", "schedule", "parent", "rerun_of"):
            labels += [(what, value)] if (value := getattr(origin, what)) else []
    created = job.created.timestamp()
    return [(what, value, created, job.id) for what, value in labels]


def _mark_unhandled(db: apsw.Connection, jobs: Sequence[JobState]) -> None:
    """Those that are not over and fail while nobody can do them: few have to be looked at then."""
    if not jobs:
        return
    over = [job.id for job in jobs if job.is_over]
    rows.delete(db, "label WHERE what = 'unhandled' AND id", over)
    going_on = [job for job in jobs if not job.is_over]
    marks = [("unhandled", job.name, job.created.timestamp(), job.id) for job in going_on]
    rows.insert(db, "OR IGNORE INTO label", marks)
