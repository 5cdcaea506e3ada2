"""How many jobs were in each state after any event, and that a view made anew tells the same."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import apsw
import msgspec
import pytest

from penstock.client import Backoff, Penstock
from penstock.contracts.envelope import unwrap
from penstock.contracts.errors import NotFound
from penstock.contracts.job_reads import AskStats, Count
from penstock.contracts.job_state import JobState
from penstock.infra.event_log import JetStreamEventLog, Recorded
from penstock.infra.views.read_model import FRAME_SCHEMA
from penstock.jobs import job_counts, job_steps
from penstock.jobs.domain import State, evolve
from penstock.jobs.job_moves import Move, Tally
from penstock.jobs.job_view import JobView
from penstock.jobs.stats import stats
from support.workers import NewWorker

SOON = Backoff(initial=0.01, maximum=0.02)


@pytest.fixture
async def worked(ps: Penstock, new_worker: NewWorker) -> AsyncIterator[Penstock]:
    """Some jobs that ended in every way, many of them within one second."""
    worker = new_worker(queues=["q"])

    @worker.register_handler("good")
    async def good() -> None:
        """Does nothing."""

    @worker.register_handler("bad")
    async def bad() -> None:
        raise ValueError

    async with worker:
        for number in range(5):
            await ps.jobs.enqueue("good", id=f"g{number}", queue="q")
        await ps.jobs.enqueue("bad", id="b", queue="q", max_attempts=2, backoff=SOON)
        await ps.queues.set_weight("q", "t", 2)  # an event that is about no job
        await ps.jobs.enqueue("good", id="later", queue="other", delay=60)
        await ps.jobs.cancel("later")
        async with asyncio.timeout(60):
            while (total := (await ps.jobs.stats()).total).completed < 5 or not total.failed:
                await asyncio.sleep(0.02)
    await ps.jobs.redrive("b")
    yield ps


async def records(ps: Penstock) -> list[Recorded]:
    return [one async for one in JetStreamEventLog(ps.session.bus, "jobs").read()]


def states_after(log: Sequence[Recorded], sequence: int, queue: str | None) -> Counter[str]:
    """How many jobs are in each state when everything up to a sequence is folded."""
    states: dict[str, State] = {}
    for record in log:
        if record.sequence <= sequence:
            event = record.event
            states[event.subject] = evolve(states.get(event.subject), unwrap(event), event)
    jobs = [one for one in states.values() if isinstance(one, JobState)]
    return Counter(job.state for job in jobs if queue in (None, job.queue))


def told(total: Count) -> Counter[str]:
    counts = msgspec.structs.asdict(total)
    return Counter({state: n for state, n in counts.items() if isinstance(n, int) and n})


async def test_the_counts_at_a_sequence_are_those_right_after_its_event(worked: Penstock) -> None:
    log = await records(worked)
    assert len(log) > 20
    for record in log:
        for queue in (None, "q"):
            found = await worked.jobs.stats(at=record.sequence, queue=queue)
            assert told(found.total) == states_after(log, record.sequence, queue)
            assert (found.sequence, found.exact_to) == (record.sequence, 0)
    with pytest.raises(NotFound, match=f"no event of jobs at {log[-1].sequence + 1}"):
        await worked.jobs.stats(at=log[-1].sequence + 1)


def view() -> apsw.Connection:
    db = apsw.Connection(":memory:")
    db.execute(FRAME_SCHEMA + JobView.schema)
    return db


def enqueued(db: apsw.Connection, at: datetime, sequences: Sequence[int]) -> None:
    """Jobs that were enqueued then, by these events."""
    tally = Tally()
    for sequence in sequences:
        moment = int(at.timestamp() * 1000)
        tally.add("q", "n", 5, None, Move("p", moment, moment), sequence)
    job_counts.add(db, tally.counts())
    job_counts.tick(db, {int(at.timestamp()): sequences[-1]})
    job_steps.add(db, tally.steps())
    db.execute("UPDATE checkpoint SET sequence = ?", (sequences[-1],))
    job_counts.thin_out(db)
    job_steps.thin_out(db)


def test_an_event_that_is_noted_twice_counts_once() -> None:
    db = view()
    now = datetime.now(UTC)
    enqueued(db, now, [1, 2, 300])
    job_steps.add(db, {("q", "n", "p"): [1, 2, 300]})
    found = [stats(db, AskStats(at=str(sequence))).total.pending for sequence in (0, 1, 2, 300)]
    assert found == [0, 1, 2, 3]


def test_events_of_more_than_two_days_ago_are_told_by_their_time_alone() -> None:
    db = view()
    now = datetime.now(UTC)
    enqueued(db, now - timedelta(days=4), [1, 2])
    enqueued(db, now - timedelta(days=3), [600])
    enqueued(db, now - timedelta(hours=1), [1000, 1001])
    assert stats(db, AskStats(at="1000")).total.pending == 4
    assert db.execute("SELECT min(block) FROM steps").get == 600 // job_steps.BLOCK
    for gone in ("2", "600"):
        with pytest.raises(NotFound, match="ask for a time instead"):
            stats(db, AskStats(at=gone))
