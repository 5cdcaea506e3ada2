"""When a job is expected to start and end, by what its name and its queue did. Never promises."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import apsw
import msgspec

from penstock.contracts.errors import NotFound
from penstock.contracts.job_reads import AskEstimate, Estimate
from penstock.contracts.job_state import JobState
from penstock.infra import clock
from penstock.infra.queries import Query
from penstock.jobs.job_lists import decode
from penstock.jobs.job_metrics import quantile
from penstock.jobs.job_moves import COMPLETED, FAILED, RUN, seconds
from penstock.jobs.workers import Workers
from penstock.jobs.workers_missing import who_is_missing

WEEK = 7 * 86_400
ENOUGH = 5  # attempts within a week; with fewer, all that there ever were count
LATELY = 60  # seconds over which a queue's speed is seen
MANY = 10  # jobs that have to have ended for that


def queries(workers: Workers) -> list[Query[Any]]:
    """The question, answered from the view and who works."""
    return [
        Query(
            name="estimate",
            path="/jobs/{id}/estimate",
            params=AskEstimate,
            returns=Estimate,
            read=lambda db, params: estimate(db, params, workers),
            summary="When a job is expected to start and to end, from the history of its name",
        )
    ]


def estimate(db: apsw.Connection, params: AskEstimate, workers: Workers) -> Estimate:
    """What is expected of one job. Raises NotFound."""
    row = db.execute("SELECT state FROM aggregate WHERE id = ?", (params.id,)).get
    job = msgspec.json.decode(row) if row else {}
    if job.get("type") != "job":
        raise NotFound(f"There is no job {params.id!r} that goes on or ended lately.", id=params.id)
    return _of(db, decode(row), workers)


def _of(db: apsw.Connection, job: JobState, workers: Workers) -> Estimate:
    now = clock.now().timestamp()
    known = Estimate(id=job.id, state=job.state)
    if job.is_over:
        return msgspec.structs.replace(known, starts=job.started, ends=job.ended, ends_by=job.ended)
    runs = durations(db, "name", job.name)
    known = msgspec.structs.replace(known, history=sum(runs.values()))
    if job.state == "processing" and job.started:
        known = msgspec.structs.replace(known, starts=job.started)
        begin = job.started.timestamp()
    else:
        due = max(now, job.run_at.timestamp() if job.run_at else 0.0)
        ahead = _ahead(db, job)
        known = msgspec.structs.replace(known, ahead=ahead)
        wait = _wait(db, job, ahead, workers)
        if isinstance(wait, str):
            return msgspec.structs.replace(known, unknown=wait)
        begin = max(due, now + wait)
        known = msgspec.structs.replace(known, starts=_time(begin))
    if not runs:
        unknown = f"No job named {job.name!r} has run yet: nobody knows how long it takes."
        return msgspec.structs.replace(known, unknown=unknown)
    ends = _time(max(now, begin + quantile(runs, 0.5)))
    by = _time(max(now, begin + quantile(runs, 0.9)))
    return msgspec.structs.replace(known, ends=ends, ends_by=by)


def durations(db: apsw.Connection, column: str, value: str) -> dict[int, int]:
    """How long attempts of a `name` or in a `queue` took, of the last week if that is enough."""
    newest = int(clock.now().timestamp()) - WEEK
    for size, since in ((3600, newest), (86_400, 0)):
        rows: Iterable[Any] = db.execute(
            f"""SELECT bucket, SUM(count) FROM counts
                WHERE size = ? AND at >= ? AND what = ? AND {column} = ?
                GROUP BY bucket HAVING SUM(count) > 0""",
            (size, since, RUN, value),
        )
        found = dict(rows)
        if sum(found.values()) >= ENOUGH:
            break
    return found


def _ahead(db: apsw.Connection, job: JobState) -> int:
    """The jobs of its queue that can be run before it."""
    due: int | None = db.execute("SELECT due FROM listed WHERE id = ?", (job.id,)).get
    ahead: int = db.execute(
        """SELECT count(*) FROM listed WHERE state IN ('pending', 'retrying') AND queue = :queue
           AND (priority > :priority AND due <= max(:due, :now)
                OR priority = :priority AND due < :due)""",
        {
            "queue": job.queue,
            "priority": job.priority,
            "due": due,
            "now": int(clock.now().timestamp() * 1000),
        },
    ).get
    return ahead


def _wait(db: apsw.Connection, job: JobState, ahead: int, workers: Workers) -> float | str:
    """In how many seconds its turn comes, or why nobody knows."""
    if missing := who_is_missing(workers, job.queue, job.name):
        return missing
    hands = [sign for sign in workers.alive() if job.queue in sign.queues and not sign.draining]
    free = sum(max(0, sign.concurrency - sign.jobs) for sign in hands)
    if ahead < free:
        return 0.0
    ended: int = db.execute(
        f"""SELECT coalesce(SUM(count), 0) FROM counts
            WHERE size = 1 AND at > ? AND what IN {(COMPLETED, FAILED)} AND queue = ?""",
        (int(clock.now().timestamp()) - LATELY, job.queue),
    ).get
    if ended >= MANY:  # with jobs waiting, that is as fast as it goes
        return (ahead + 1) * LATELY / ended
    runs = durations(db, "queue", job.queue)
    if not runs:
        return f"No job of the queue {job.queue!r} has ended yet: nobody knows how fast it goes."
    mean = sum(seconds(of) * count for of, count in runs.items()) / sum(runs.values())
    return (ahead + 1) * mean / max(1, sum(sign.concurrency for sign in hands))


def _time(stamp: float) -> datetime:
    return datetime.fromtimestamp(stamp, UTC)
