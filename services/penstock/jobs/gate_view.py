"""Gated jobs that wait, by their gates: who is next, and who has a place and waits. Never decides.

It is a hint: who acts upon it looks at the job and the gate themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import apsw
import msgspec
from msgspec.structs import replace

from penstock.contracts.gates import GateState, PlacesChanged
from penstock.contracts.job_state import JobState
from penstock.infra.views import rows
from penstock.infra.views.view import Ended, Folded, View
from penstock.jobs.gate import Gate, gates, is_gated, keeps, opens

LARGE = 16_384  # bytes of a state, above which it is kept without its payload

_decode_job = msgspec.json.Decoder(JobState).decode
_decode_gate = msgspec.json.Decoder(GateState).decode


class Waiting(msgspec.Struct, frozen=True):
    """A job that waits: its state at `sequence`, not `is_whole` if its payload is too large to be
    kept. `gates` are those that it has to pass.
    """

    job: str
    sequence: int
    state: JobState
    is_whole: bool
    turn: tuple[int, datetime, str]
    gates: tuple[str, ...]

    @classmethod
    def of(cls, state: JobState, sequence: int, *, is_whole: bool = True) -> Waiting:
        """The turn goes by priority, then by age."""
        turn = -state.priority, state.created, state.id
        own = tuple(gate.id for gate in gates(state))
        return cls(state.id, sequence, state, is_whole, turn, own)


class GatedJobView(View[JobState]):
    """The rows of `jobs`, and one for each gate of a gated job that waits."""

    def __init__(self, jobs: View[JobState]) -> None:
        self._jobs = jobs
        self.schema = (
            jobs.schema
            + """
    CREATE TABLE gated (
        gate TEXT NOT NULL, job TEXT NOT NULL, priority INTEGER NOT NULL, created REAL NOT NULL,
        run_at REAL, sequence INTEGER NOT NULL, held INTEGER NOT NULL, PRIMARY KEY (gate, job)
    ) WITHOUT ROWID;
    CREATE INDEX gated_by_turn ON gated (gate, priority DESC, created, job)
        WHERE held = 0 AND run_at IS NULL;
    CREATE INDEX gated_by_time ON gated (gate, run_at) WHERE held = 0 AND run_at IS NOT NULL;
    CREATE INDEX gated_by_job ON gated (job);
    CREATE INDEX gated_held ON gated (job, gate) WHERE held;
    """
        )

    def fold(self, db: apsw.Connection, folded: Sequence[Folded[JobState]]) -> None:
        """See View.fold."""
        self._jobs.fold(db, folded)
        gated = {f.event.subject: f for f in folded if is_gated(f.state.rules)}
        if not gated:
            return
        rows.delete(db, "gated WHERE job", list(gated))
        db.executemany(
            "INSERT OR REPLACE INTO gated VALUES (?, ?, ?, ?, ?, ?, 0)",
            [row for one in gated.values() for row in _rows(one)],
        )

    def end(self, db: apsw.Connection, ended: Sequence[Ended]) -> None:
        """See View.end."""
        self._jobs.end(db, ended)
        rows.delete(db, "gated WHERE job", [one.event.subject for one in ended])

    def release(self, db: apsw.Connection) -> None:
        """See View.release."""
        self._jobs.release(db)


def _rows(one: Folded[JobState]) -> list[tuple[object, ...]]:
    job = one.state
    if job.state not in ("pending", "retrying"):
        return []
    run_at = job.run_at.timestamp() if job.run_at else None
    kept = job.priority, job.created.timestamp(), run_at, one.sequence
    return [(gate.id, job.id, *kept) for gate in gates(job)]


class GateView(View[GateState]):
    """Notes beside the jobs that wait which of them have a place."""

    def fold(self, db: apsw.Connection, folded: Sequence[Folded[GateState]]) -> None:
        """See View.fold."""
        last = {one.event.subject: one.state for one in folded}
        touched = {(one.event.subject, job) for one in folded for job in _concerned(one.data)}
        db.executemany(
            "UPDATE gated SET held = ? WHERE gate = ? AND job = ?",
            [(job in last[gate].holders, gate, job) for gate, job in touched],
        )


def _concerned(event: Any) -> tuple[str, ...]:
    if isinstance(event, PlacesChanged):
        return (*event.freed, *event.taken)
    return (event.job,)


def next_at(
    db: apsw.Connection,
    wanted: Mapping[str, int],
    known: Mapping[str, Waiting],
    passed: Mapping[str, int],
) -> dict[str, list[Waiting]]:
    """At each gate so many who wait there without a place.

    Those in turn first, and as many whose time has come. Not those that have `passed` since, by the
    sequences up to which they are known not to wait.
    """
    return {gate: _next_at(db, gate, limit, known, passed) for gate, limit in wanted.items()}


def _next_at(
    db: apsw.Connection,
    gate: str,
    limit: int,
    known: Mapping[str, Waiting],
    passed: Mapping[str, int],
) -> list[Waiting]:
    found = list[Waiting]()
    for query in (IN_TURN, IN_TIME):
        count = 0
        for job, sequence in db.execute(query, (gate,)):
            if passed.get(job, 0) >= sequence:
                continue
            if count == limit:
                break
            count += 1
            one = known.get(job)
            if one is None or one.sequence != sequence:
                one = _waiting(db, job, sequence)
            if one is not None:
                found.append(one)
    return found


IN_TURN = """SELECT job, sequence FROM gated WHERE gate = ? AND held = 0 AND run_at IS NULL
             ORDER BY priority DESC, created, job"""
IN_TIME = """SELECT job, sequence FROM gated WHERE gate = ? AND held = 0 AND run_at IS NOT NULL
             AND run_at <= unixepoch('subsec') ORDER BY run_at"""


def _waiting(db: apsw.Connection, job: str, sequence: int) -> Waiting | None:
    body = _state(db, job)
    if body is None:
        return None
    state, is_whole = _decode_job(body), len(body) <= LARGE
    return Waiting.of(
        state if is_whole else replace(state, payload={}), sequence, is_whole=is_whole
    )


def with_room(db: apsw.Connection, after: str, limit: int) -> tuple[list[str], str]:
    """Of a page of gates behind `after`, those at which somebody waits and a place seems free.

    Also the last gate of the page, "" if there is none behind it.
    """
    page = [
        gate
        for (gate,) in db.execute(
            """WITH RECURSIVE each(gate) AS (
                   SELECT min(gate) FROM gated WHERE gate > ?1
                   UNION ALL
                   SELECT (SELECT min(gate) FROM gated WHERE gate > each.gate) FROM each
                   WHERE each.gate IS NOT NULL LIMIT ?2
               ) SELECT gate FROM each WHERE gate IS NOT NULL""",
            (after, limit),
        )
    ]
    return [gate for gate in page if _has_room(db, gate)], page[-1] if len(page) == limit else ""


def _has_room(db: apsw.Connection, id: str) -> bool:
    """The tenant's weight is not known here: a little room is not seen, and filled by others."""
    first = _next_at(db, id, 1, {}, {})
    own = next((g for one in first for g in gates(one.state) if g.id == id), None)
    return own is not None and _opens(db, own)


def _opens(db: apsw.Connection, one: Gate) -> bool:
    now = datetime.now(UTC)
    moment = opens(gate(db, one.id), one, now)
    return moment is not None and moment <= now


def _state(db: apsw.Connection, id: str) -> bytes | None:
    row = db.execute("SELECT state FROM aggregate WHERE id = ?", (id,)).fetchone()
    return row[0] if row else None


def with_places(db: apsw.Connection, after: str, limit: int) -> list[str]:
    """Jobs behind the id `after` that wait and have a place somewhere."""
    found = db.execute(
        "SELECT DISTINCT job FROM gated WHERE held AND job > ? ORDER BY job LIMIT ?", (after, limit)
    )
    return [job for (job,) in found]


def gate(db: apsw.Connection, id: str) -> GateState | None:
    """The state of a gate, if anybody ever went through."""
    body = _state(db, id)
    return _decode_gate(body) if body else None


def jobs(db: apsw.Connection, ids: Sequence[str]) -> list[JobState]:
    """The states of these jobs, of those that are known."""
    return [job for id in ids if (job := _job(db, id)) is not None]


def idle(db: apsw.Connection, after: str, limit: int) -> tuple[list[tuple[str, str]], str]:
    """Of a page of gates behind `after`: each with a holder that seems to need its place no longer.

    Also the last gate of the page, "" if there is none behind it.
    """
    page: list[Any] = db.execute(
        """SELECT id, state FROM aggregate WHERE id > ? AND id > 'gate:' AND id < 'gate;'
           ORDER BY id LIMIT ?""",
        (after, limit),
    ).fetchall()
    found = [
        (id, job)
        for id, state in page
        for job in _decode_gate(state).holders
        if not _keeps(_job(db, job), id)
    ]
    return found, page[-1][0] if len(page) == limit else ""


def _keeps(job: JobState | None, gate: str) -> bool:
    if job is None or not is_gated(job.rules):
        return False
    now = datetime.now(UTC)
    return any(one.id == gate and keeps(job, one, now) for one in gates(job))


def _job(db: apsw.Connection, id: str) -> JobState | None:
    state = _state(db, id)
    return _decode_job(state) if state else None
