"""Lists of jobs, and how deep the queues are. Never changes anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import apsw
import msgspec

from penstock.contracts.answers import Question
from penstock.contracts.errors import NotFound
from penstock.contracts.job_reads import ListJobs, QueueDepth
from penstock.contracts.job_state import JobState
from penstock.infra import clock
from penstock.infra.queries import Query

decode = msgspec.json.Decoder(JobState).decode
BYTES = 4 * 1024 * 1024  # of the states in one answer: the server takes twice as much
LABELS = ("workflow", "schedule", "parent", "rerun_of", "tag")  # the rarest first


def listed(db: apsw.Connection, params: ListJobs) -> list[JobState]:
    """Newest first; `before` is the id of the last one of the page before. Raises NotFound."""
    labels = {what: value for what in LABELS if (value := getattr(params, what))}
    where = [f"listed.{column} = :{column}" for column in ("state", "queue", "name")
             if getattr(params, column)]  # fmt: skip
    if params.state and params.state != "completed":
        where.append("listed.state <> 'completed'")  # says that the index has them all
    if params.queue and params.queue != "default":
        where.append("listed.queue <> 'default'")
    if params.since:
        where.append("{created} >= :since")
    if params.until:
        where.append("{created} < :until")
    return page(db, where, labels, msgspec.structs.asdict(params))


def page(
    db: apsw.Connection, where: list[str], labels: Mapping[str, str], params: dict[str, Any]
) -> list[JobState]:
    """Jobs that fit, newest first, behind the one that is `before`. Raises NotFound."""
    return bounded(rows_of(db, "aggregate.state", where, labels, params))


def bounded(rows: Iterable[Any]) -> list[JobState]:
    """The jobs of these states, as many as fit into an answer; one at least, if there is any."""
    jobs: list[JobState] = []
    size = 0
    for (state,) in rows:
        size += len(state)
        if jobs and size > BYTES:
            break
        jobs.append(decode(state))
    return jobs


def rows_of(
    db: apsw.Connection,
    told: str,
    where: list[str],
    labels: Mapping[str, str],
    params: dict[str, Any],
    *,
    index: str = "",
) -> Iterable[Any]:
    """What is to be `told` of the jobs of a `page`; `index` says how they are found."""
    given = {
        **params,
        "since": _seconds(params.get("since")),
        "until": _seconds(params.get("until")),
    }
    first, *others = labels or [None]
    main = "label" if first else "listed"
    source = "label JOIN listed USING (id)" if first else f"listed {index}"
    if first:
        where = [f"label.what = '{first}' AND label.value = :{first}", *where]
    for what in others:
        where.append(
            f"EXISTS (SELECT 1 FROM label AS {what} WHERE {what}.what = '{what}'"
            f" AND {what}.value = :{what} AND {what}.created = listed.created"
            f" AND {what}.id = listed.id)"
        )
    if params["before"] is not None:
        given["edge"] = _created(db, params["before"])
        where.append("({created}, {id}) < (:edge, :before)")
    fits = " AND ".join(where).format(created=f"{main}.created", id=f"{main}.id") or "1"
    select = f"""SELECT {told} FROM {source} JOIN aggregate ON aggregate.id = {main}.id
        WHERE {fits} ORDER BY {main}.created DESC, {main}.id DESC LIMIT :limit"""
    return db.execute(select, given)


def _created(db: apsw.Connection, id: str) -> float:
    created: float | None = db.execute("SELECT created FROM listed WHERE id = ?", (id,)).get
    if created is None:
        raise NotFound(f"There is no job {id!r} to go on after; begin the list again.", id=id)
    return created


def _seconds(moment: Any) -> float | None:
    return None if moment is None else float(moment.timestamp())


def depths(db: apsw.Connection, _: Question) -> list[QueueDepth]:
    """Each queue and priority that has unfinished jobs, highest priority first."""
    now = int(clock.now().timestamp() * 1000)
    found: list[Any] = db.execute(
        """SELECT queue, priority, SUM(count * (letter = 'p')), SUM(count * (letter = 'w')),
                  SUM(count * (letter = 'r'))
           FROM depth GROUP BY queue, priority HAVING SUM(count) > 0
           ORDER BY queue, priority DESC"""
    ).fetchall()
    return [_depth(db, now, *row) for row in found]


def _depth(
    db: apsw.Connection, now: int, queue: str, priority: int, pending: int, again: int, runs: int
) -> QueueDepth:
    delayed: int = db.execute(
        """SELECT count(*) FROM listed WHERE state IN ('pending', 'retrying')
           AND queue = ? AND priority = ? AND due > ?""",
        (queue, priority, now),
    ).get
    waiting = max(0, pending + again - delayed)
    return QueueDepth(
        queue=queue,
        priority=priority,
        waiting=waiting,
        delayed=delayed,
        processing=runs,
        retrying=again,
    )


def oldest(db: apsw.Connection, queue: str, priority: int) -> int | None:
    """From when on the job of a queue and priority could be run that waits longest."""
    due: int | None = db.execute(
        """SELECT due FROM listed WHERE state IN ('pending', 'retrying')
           AND queue = ? AND priority = ? ORDER BY due LIMIT 1""",
        (queue, priority),
    ).get
    return due


QUERIES: list[Query[Any]] = [
    Query(
        name="list",
        path="/jobs",
        params=ListJobs,
        returns=list[JobState],
        read=listed,
        summary="Jobs by state, queue, name, tag, time and origin, newest first",
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
