"""How many jobs are in each state, now and at any time before. Never changes anything."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import apsw

from penstock.contracts.errors import InvalidMessage, NotFound
from penstock.contracts.job_reads import AskStats, Count, Stats
from penstock.infra import clock
from penstock.infra.queries import Query
from penstock.infra.telling import moment
from penstock.infra.views.read_model import checkpoint
from penstock.jobs import job_counts, job_steps
from penstock.jobs.job_moves import KEPT, SIZES, STATES

FOR_EVER = 1 << 40  # seconds


def stats(db: apsw.Connection, params: AskStats) -> Stats:
    """The counts after the event, or at the end of the second, that is asked for. Raises
    InvalidMessage or NotFound.
    """
    asked = None if params.at is None else moment(params.at)
    if isinstance(asked, int):
        return _at_sequence(db, asked, params)
    second = FOR_EVER if asked is None else _second(asked)
    exact_to = 1 if asked is None else _exact_to(db, second)
    last = second - second % exact_to
    at = None if asked is None else datetime.fromtimestamp(last, UTC)
    return _told(_counted(db, last, exact_to, params), params, at=at, exact_to=exact_to)


def _at_sequence(db: apsw.Connection, sequence: int, params: AskStats) -> Stats:
    """Those of now without what came after the event there."""
    second = _second_of(db, sequence)
    found = _counted(db, FOR_EVER, 1, params)
    for key, change in job_steps.taken_back(db, sequence).items():
        if params.queue in (None, key[0]) and params.name in (None, key[1]):
            found[key] = found.get(key, 0) + change
    at = None if second is None else datetime.fromtimestamp(second, UTC)
    return _told(found, params, at=at, exact_to=0, sequence=sequence)


def _told(
    found: job_steps.Changes,
    params: AskStats,
    *,
    at: datetime | None,
    exact_to: int,
    sequence: int | None = None,
) -> Stats:
    of: dict[tuple[str, str], dict[str, int]] = {}
    for (queue, name, letter), number in sorted(found.items()):
        if number:
            of.setdefault((queue, name), {})[STATES[letter]] = number
    counts = tuple(Count(queue=queue, name=name, **n) for (queue, name), n in of.items())
    total = {state: sum(getattr(one, state) for one in counts) for state in STATES.values()}
    return Stats(
        at=at,
        exact_to=exact_to,
        sequence=sequence,
        total=Count(queue=params.queue or "", name=params.name or "", **total),
        counts=counts,
    )


def _counted(db: apsw.Connection, last: int, exact_to: int, params: AskStats) -> job_steps.Changes:
    """Whole days up to `last`, then what is left in hours, and so on down to `exact_to`."""
    spans: list[str] = []
    begin = 0
    for size in sorted(SIZES, reverse=True):
        if size < exact_to:
            break
        end = last + exact_to - (last + exact_to) % size
        if end > begin:
            spans.append(f"(size = {size} AND at >= {begin} AND at < {end})")
            begin = end
    parts = [
        f"SELECT queue, name, what, count FROM counts WHERE {span} AND what IN {tuple(STATES)}"
        " AND (:queue IS NULL OR queue = :queue) AND (:name IS NULL OR name = :name)"
        for span in spans
    ]
    rows: Iterable[Any] = db.execute(
        f"""SELECT queue, name, what, SUM(count) FROM ({" UNION ALL ".join(parts)})
            GROUP BY queue, name, what""",
        {"queue": params.queue, "name": params.name},
    )
    return {(queue, name, letter): number for queue, name, letter, number in rows}


def _exact_to(db: apsw.Connection, second: int) -> int:
    """The shortest span of time for which counts are kept of as long ago."""
    newest = job_counts.newest(db)
    return next((size for size, kept in KEPT.items() if second >= newest - kept), SIZES[-1])


def _second(asked: datetime) -> int:
    """The second of a time. Raises InvalidMessage for one to come."""
    second = int(asked.timestamp())
    if second > clock.now().timestamp() + 1:
        told = asked.isoformat()
        raise InvalidMessage(f"at={told!r} is to come; nobody knows yet.", path="$.at")
    return second


def _second_of(db: apsw.Connection, sequence: int) -> int | None:
    """The second of the event there; None before the first job. Raises NotFound."""
    end = checkpoint(db)
    if sequence > end:
        raise NotFound(f"There is no event of jobs at {sequence} or later.")
    found: int | None = db.execute(
        "SELECT min(second) FROM clock WHERE sequence >= ?", (sequence,)
    ).get
    begin, newest = db.execute("SELECT min(second), max(second) FROM clock").get
    is_old = found is not None and found == begin < newest - KEPT[1]
    if is_old or sequence < end - job_steps.EXACT:
        raise NotFound(f"What was at {sequence} is not kept any more; ask for a time instead.")
    return newest if found is None else found


QUERIES: list[Query[Any]] = [
    Query(
        name="stats",
        path="/jobs/stats",
        params=AskStats,
        returns=Stats,
        read=stats,
        summary="How many jobs were in each state, by queue and name, now or at a time",
    ),
]
