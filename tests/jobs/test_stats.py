"""What is counted of jobs: states now and then, rates, latencies; made anew it counts the same."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import apsw
import msgspec
import pytest

from penstock.client import Backoff, Penstock
from penstock.contracts.answers import Outcome
from penstock.contracts.errors import InvalidMessage, NotFound
from penstock.contracts.job_reads import AskStats, Metrics
from penstock.contracts.lifecycle import ARCHIVE
from penstock.contracts.views import Verified, Verify
from penstock.infra.control import ask_all
from penstock.jobs import job_counts
from penstock.jobs.job_metrics import latency
from penstock.jobs.job_moves import Move, Tally, bucket
from penstock.jobs.job_view import JobView
from penstock.jobs.stats import stats
from support.workers import NewWorker

SOON = Backoff(initial=0.01, maximum=0.02)


@pytest.fixture
async def worked(ps: Penstock, new_worker: NewWorker) -> AsyncIterator[Penstock]:
    """Some jobs of every kind of end; the worker is gone."""
    worker = new_worker(queues=["q"])

    @worker.register_handler("good")
    async def good() -> None:
        await asyncio.sleep(0.02)

    @worker.register_handler("bad")
    async def bad() -> None:
        raise ValueError

    async with worker:
        for number in range(6):
            await ps.jobs.enqueue("good", id=f"g{number}", queue="q")
        await ps.jobs.enqueue("bad", id="b", queue="q", max_attempts=2, backoff=SOON)
        for id in ("g5", "b"):
            async for job in ps.jobs.watch(id):
                if job.is_over:
                    break
        async with asyncio.timeout(60):
            while (await ps.jobs.stats(queue="q")).total.completed < 6:
                await asyncio.sleep(0.02)
    await ps.jobs.enqueue("good", id="later", queue="q", delay=60)
    await ps.jobs.enqueue("good", id="waits", queue="other", priority=9)
    await ps.jobs.enqueue("good", id="not", queue="other")
    await ps.jobs.cancel("not")
    yield ps


async def same_anew(ps: Penstock) -> None:
    """See that the view is as its events say."""
    [end] = [r async for r in ask_all(ps.session.bus, "jobs", "verify", Verify()) if r.ended]
    assert msgspec.json.decode(end.data, type=Verified).differences == ()


async def test_jobs_are_counted_by_state_queue_and_name(worked: Penstock) -> None:
    found = await worked.jobs.stats()
    total = found.total
    states = (total.pending, total.retrying, total.processing, total.completed, total.failed)
    assert (*states, total.cancelled) == (2, 0, 0, 6, 1, 1)
    assert [(one.queue, one.name, one.pending) for one in found.counts] == [
        ("other", "good", 1),
        ("q", "bad", 0),
        ("q", "good", 1),
    ]
    assert (await worked.jobs.stats(queue="q", name="bad")).total.failed == 1
    await same_anew(worked)


async def test_the_counts_of_an_earlier_second_are_as_they_were_then(ps: Penstock) -> None:
    first = await ps.jobs.enqueue("a", id="one")
    async with asyncio.timeout(30):
        while datetime.now(UTC).replace(microsecond=0) <= first.created:
            await asyncio.sleep(0.02)
    await ps.jobs.cancel("one")
    await ps.jobs.enqueue("a", id="two")
    then = await ps.jobs.stats(at=first.created)
    assert (then.exact_to, then.at) == (1, first.created.replace(microsecond=0))
    assert (then.total.pending, then.total.cancelled) == (1, 0)
    [queued, cancelled] = await ps.jobs.history("one")
    assert (await ps.jobs.stats(at=queued.sequence)).total == then.total
    assert (await ps.jobs.stats(at=cancelled.sequence)).total.cancelled == 1
    before = await ps.jobs.stats(at=first.created - timedelta(seconds=1))
    assert before.counts == ()
    with pytest.raises(NotFound, match="no event of jobs at 9999"):
        await ps.jobs.stats(at=9999)
    with pytest.raises(InvalidMessage, match="is to come"):
        await ps.jobs.stats(at=datetime.now(UTC) + timedelta(hours=1))


async def test_archived_jobs_stay_in_the_counts_and_the_view_is_as_its_log_says(
    worked: Penstock,
) -> None:
    ps = worked
    counted = await ps.jobs.stats()
    later = datetime.now(UTC) + timedelta(hours=1)
    archive = ARCHIVE["jobs"](before={"completed": later, "failed": later})
    outcome: Outcome = await ps.session.command(archive, id="archive-now")
    assert msgspec.json.decode(outcome.data)["aggregates"] == 7
    async with asyncio.timeout(60):
        while [job.id for job in await ps.jobs.list()] != ["not", "waits", "later"]:
            await asyncio.sleep(0.02)
    assert (await ps.jobs.stats()).total == counted.total
    await same_anew(ps)


async def test_a_queue_tells_its_depth_oldest_job_rates_and_latencies(worked: Penstock) -> None:
    found = {(one.queue, one.name): one for one in await worked.jobs.metrics()}
    q: Metrics = found["q", None]
    assert (q.waiting, q.delayed, q.retrying, q.processing, q.oldest) == (0, 1, 0, 0, None)
    assert [round(rate.enqueued * 60 * rate.minutes) for rate in q.rates] == [8, 8, 8]
    assert round(q.rates[0].completed * 60) == 6
    assert round(q.rates[0].failed * 60) == 1
    run = found["q", "good"].run
    assert run and q.wait and q.run
    assert (run.count, q.run.count, q.wait.count) == (6, 8, 8)
    assert 0.015 < run.p50 < 0.3
    assert run.p50 <= run.p90 <= run.p99
    other = found["other", None]
    assert (other.waiting, other.delayed) == (1, 0)
    assert other.oldest is not None and 0 <= other.oldest < 30
    assert {one.queue for one in await worked.jobs.metrics("other")} == {"other"}


def test_what_is_long_past_is_counted_to_the_minute_and_then_to_the_hour() -> None:
    db = apsw.Connection(":memory:")
    db.execute(JobView.schema)
    now = int(time.time())
    for age in (400 * 86_400, 40 * 86_400, 3 * 86_400, 0):
        tally = Tally()
        at = (now - age) * 1000
        tally.add("q", "n", 5, None, Move("p", at, at))
        job_counts.add(db, tally.counts())
        job_counts.thin_out(db)
    for age, exact_to, pending in ((3 * 86_400, 60, 3), (40 * 86_400, 3600, 2), (0, 1, 4)):
        then = datetime.fromtimestamp(now - age, UTC)
        found = stats(db, AskStats(at=then.isoformat()))
        assert (found.exact_to, found.total.pending) == (exact_to, pending)
    assert stats(db, AskStats()).total.pending == 4


def test_percentiles_are_within_ten_percent_of_what_was_counted() -> None:
    buckets: dict[int, int] = {}
    for milliseconds in range(1, 10_001):
        buckets[bucket(milliseconds)] = buckets.get(bucket(milliseconds), 0) + 1
    found = latency(buckets)
    assert found is not None and found.count == 10_000
    for share, told in ((0.5, found.p50), (0.9, found.p90), (0.99, found.p99)):
        assert told == pytest.approx(share * 10, rel=0.1)
    assert latency({}) is None
