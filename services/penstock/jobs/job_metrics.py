"""How queues do: depth, the oldest waiting job, rates and latencies. Never changes anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import apsw
import msgspec

from penstock.contracts.job_reads import AskMetrics, Latency, Metrics, QueueDepth, Rates
from penstock.infra import clock
from penstock.infra.queries import Query
from penstock.jobs.job_lists import depths, oldest
from penstock.jobs.job_moves import COMPLETED, ENQUEUED, FAILED, RUN, WAIT, seconds

OVER = (1, 5, 15)  # minutes
Key = tuple[str, str | None]
_Rates = dict[tuple[Key, int, str], int]


def metrics(db: apsw.Connection, params: AskMetrics) -> list[Metrics]:
    """Each queue, and after it each of its names that was heard of lately."""
    now = clock.now().timestamp()
    rates = _rates(db, params, int(now))
    durations = histograms(db, params.queue, int(now) - 60 * params.minutes)
    depth: dict[Key, _Depth] = {**_by_queue(db, params, now), **_by_name(db, params)}
    keys = {key for key, _, _ in rates} | {key for key, _ in durations} | set(depth)
    return [
        Metrics(
            queue=key[0],
            name=key[1],
            **msgspec.structs.asdict(depth.get(key, _Depth())),
            rates=_told(rates, key),
            wait=latency(durations.get((key, WAIT), {})),
            run=latency(durations.get((key, RUN), {})),
        )
        for key in sorted(keys, key=lambda key: (key[0], key[1] or ""))
    ]


class _Depth(msgspec.Struct):
    waiting: int = 0
    delayed: int = 0
    retrying: int = 0
    processing: int = 0
    oldest: float | None = None


def _by_queue(db: apsw.Connection, params: AskMetrics, now: float) -> dict[Key, _Depth]:
    of: dict[str, list[QueueDepth]] = {}
    for depth in depths(db, params):
        if params.queue in (None, depth.queue):
            of.setdefault(depth.queue, []).append(depth)
    return {
        (queue, None): _Depth(
            sum(one.waiting for one in found),
            sum(one.delayed for one in found),
            sum(one.retrying for one in found),
            sum(one.processing for one in found),
            _age(db, found, now),
        )
        for queue, found in of.items()
    }


def _age(db: apsw.Connection, depth: Iterable[QueueDepth], now: float) -> float | None:
    since = [due for d in depth if d.waiting and (due := oldest(db, d.queue, d.priority))]
    return max(0.0, now - min(since) / 1000) if since else None


def _rates(db: apsw.Connection, params: AskMetrics, now: int) -> _Rates:
    """How many came and went, by queue (and name), minutes and what."""
    found: _Rates = {}
    for minutes in OVER:
        rows: Iterable[Any] = db.execute(
            f"""SELECT queue, name, what, SUM(count) FROM counts
                WHERE size = 1 AND at > ? AND what IN {(ENQUEUED, COMPLETED, FAILED)}
                  AND queue = coalesce(?, queue) GROUP BY 1, 2, 3""",
            (now - 60 * minutes, params.queue),
        )
        for queue, name, what, number in rows:
            for key in ((queue, None), (queue, name)):
                at = (key, minutes, what)
                found[at] = found.get(at, 0) + number
    return found


def _told(rates: _Rates, key: Key) -> tuple[Rates, ...]:
    def a_second(minutes: int, what: str) -> float:
        return round(rates.get((key, minutes, what), 0) / (60 * minutes), 3)

    return tuple(
        Rates(
            minutes=minutes,
            enqueued=a_second(minutes, ENQUEUED),
            completed=a_second(minutes, COMPLETED),
            failed=a_second(minutes, FAILED),
        )
        for minutes in OVER
    )


def _by_name(db: apsw.Connection, params: AskMetrics) -> dict[Key, _Depth]:
    """What is delayed counts as waiting here: the counts do not tell the two apart."""
    rows: Iterable[Any] = db.execute(
        """SELECT queue, name, SUM(count * (what <> 'r')), SUM(count * (what = 'w')),
                  SUM(count * (what = 'r'))
           FROM counted WHERE size = 86400 AND what IN ('p', 'w', 'r')
             AND queue = coalesce(?, queue)
           GROUP BY 1, 2 HAVING SUM(count) > 0""",
        (params.queue,),
    )
    return {
        (queue, name): _Depth(waiting, 0, retrying, processing)
        for queue, name, waiting, retrying, processing in rows
    }


def histograms(
    db: apsw.Connection, queue: str | None, since: int
) -> dict[tuple[Key, str], dict[int, int]]:
    """How many durations were in which bucket, by queue (and name) and what took so long."""
    rows: Iterable[Any] = db.execute(
        f"""SELECT queue, name, what, bucket, SUM(count) FROM counts
            WHERE size = 60 AND at > ? AND what IN {(WAIT, RUN)} AND queue = coalesce(?, queue)
            GROUP BY 1, 2, 3, 4""",
        (since, queue),
    )
    found: dict[tuple[Key, str], dict[int, int]] = {}
    for of, name, what, bucket, number in rows:
        for key in ((of, None), (of, name)):
            into = found.setdefault((key, what), {})
            into[bucket] = into.get(bucket, 0) + number
    return found


def latency(buckets: Mapping[int, int]) -> Latency | None:
    """The percentiles of what was counted, None if nothing was."""
    total = sum(buckets.values())
    if total <= 0:
        return None
    return Latency(
        count=total,
        p50=quantile(buckets, 0.5),
        p90=quantile(buckets, 0.9),
        p99=quantile(buckets, 0.99),
    )


def quantile(buckets: Mapping[int, int], share: float) -> float:
    """The duration, in seconds, that `share` of them did not exceed."""
    left = share * sum(buckets.values())
    for bucket in sorted(buckets):
        left -= buckets[bucket]
        if left <= 0:
            break
    return round(seconds(bucket), 6)


QUERIES: list[Query[Any]] = [
    Query(
        name="metrics",
        path="/jobs/metrics",
        params=AskMetrics,
        returns=list[Metrics],
        read=metrics,
        summary="Depth, oldest waiting job, rates and latencies of each queue and of its names",
    ),
]
