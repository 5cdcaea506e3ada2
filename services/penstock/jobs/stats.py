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
from penstock.jobs.job_moves import KEPT, SIZES, STATES

FOR_EVER = 1 << 40  # seconds


def stats(db: apsw.Connection, params: AskStats) -> Stats:
    """The counts at the end of the second that is asked for. Raises InvalidMessage, NotFound."""
    second = FOR_EVER if params.at is None else _second(db, params.at)
    exact_to = 1 if params.at is None else _exact_to(db, second)
    last = second - second % exact_to
    found: dict[tuple[str, str], dict[str, int]] = {}
    for queue, name, letter, number in _counted(db, last, exact_to, params):
        if number:
            found.setdefault((queue, name), {})[STATES[letter]] = number
    counts = tuple(Count(queue=queue, name=name, **n) for (queue, name), n in found.items())
    total = {state: sum(getattr(one, state) for one in counts) for state in STATES.values()}
    return Stats(
        at=None if params.at is None else datetime.fromtimestamp(last, UTC),
        exact_to=exact_to,
        total=Count(queue=params.queue or "", name=params.name or "", **total),
        counts=counts,
    )


def _counted(
    db: apsw.Connection, last: int, exact_to: int, params: AskStats
) -> list[tuple[str, str, str, int]]:
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
            GROUP BY queue, name, what ORDER BY queue, name""",
        {"queue": params.queue, "name": params.name},
    )
    return list(rows)


def _exact_to(db: apsw.Connection, second: int) -> int:
    """The shortest span of time for which counts are kept of as long ago."""
    newest: int = db.execute("SELECT coalesce(max(at), 0) FROM counts WHERE size = 1").get
    return next((size for size, kept in KEPT.items() if second >= newest - kept), SIZES[-1])


def _second(db: apsw.Connection, at: str) -> int:
    """The second of a stream sequence or a time."""
    asked = moment(at)
    if isinstance(asked, int):
        return _second_of(db, asked)
    second = int(asked.timestamp())
    if second > clock.now().timestamp() + 1:
        raise InvalidMessage(f"at={at!r} is to come; nobody knows yet.", path="$.at")
    return second


def _second_of(db: apsw.Connection, sequence: int) -> int:
    found: int | None = db.execute(
        "SELECT min(second) FROM clock WHERE sequence >= ?", (sequence,)
    ).get
    begin: int | None = db.execute("SELECT min(second) FROM clock").get
    if found is None:
        raise NotFound(f"There is no event of jobs at {sequence} or later.")
    if found == begin and KEPT[1] <= clock.now().timestamp() - found:
        raise NotFound(f"When {sequence} was is not kept any more; ask for a time instead.")
    return found


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
