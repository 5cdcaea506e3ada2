"""Jobs that left the log go on to be counted, also by a view that is made anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import apsw
import msgspec
import pytest

from penstock.client import Penstock
from penstock.contracts.answers import Outcome
from penstock.contracts.envelope import Envelope, unwrap, wrap
from penstock.contracts.job_reads import AskStats, Metrics, Stats
from penstock.contracts.job_tally import JobsTallied
from penstock.contracts.jobs import JobCompleted, JobQueued, JobStarted
from penstock.contracts.lifecycle import ARCHIVE, ERASE
from penstock.contracts.views import Rebuild
from penstock.infra.control import ask_all
from penstock.infra.event_log import JetStreamEventLog, Recorded
from penstock.infra.views.read_model import FRAME_SCHEMA
from penstock.infra.views.view import Folded
from penstock.jobs.job_view import JobView
from penstock.jobs.stats import stats
from penstock.jobs.tally import evolve, tally
from penstock.jobs.tally_view import TallyView
from penstock.jobs.tallying import Tallying
from support.workers import NewWorker


@pytest.fixture
async def worked(ps: Penstock, new_worker: NewWorker) -> AsyncIterator[Penstock]:
    """Four jobs that are done, one that failed and one that waits."""
    worker = new_worker(queues=["q"])

    @worker.register_handler("divide")
    async def divide(by: int) -> float:
        return 1 / by

    async with worker:
        for by in range(5):
            await ps.jobs.enqueue("divide", {"by": by}, id=f"d{by}", queue="q", max_attempts=1)
        async with asyncio.timeout(60):
            while (total := (await ps.jobs.stats()).total).completed + total.failed < 5:
                await asyncio.sleep(0.02)
    last = (await ps.jobs.stats(at=(await records(ps))[-1].sequence)).at
    async with asyncio.timeout(30):
        while last and datetime.now(UTC) < last + timedelta(seconds=1):  # in another second
            await asyncio.sleep(0.02)
    await ps.jobs.enqueue("divide", id="waits", queue="q")
    yield ps


async def records(ps: Penstock) -> list[Recorded]:
    return [one async for one in JetStreamEventLog(ps.session.bus, "jobs").read()]


async def made_anew(ps: Penstock) -> None:
    """Have the view folded from the log as it is now."""
    [*_, end] = [one async for one in ask_all(ps.session.bus, "jobs", "rebuild", Rebuild())]
    assert end.ended and not end.problem


async def archived(ps: Penstock, count: int) -> None:
    """Have all that ended moved to the archive, and see it gone from the lists."""
    later = datetime.now(UTC) + timedelta(hours=1)
    command = ARCHIVE["jobs"](before=dict.fromkeys(("completed", "failed"), later))
    outcome: Outcome = await ps.session.command(command, id="archive-now")
    assert msgspec.json.decode(outcome.data)["aggregates"] == count


async def tallies(ps: Penstock) -> list[JobsTallied]:
    found = [unwrap(record.event) for record in await records(ps)]
    return [data for data in found if isinstance(data, JobsTallied)]


def without_ages(metrics: list[Metrics]) -> list[Metrics]:
    return [msgspec.structs.replace(one, oldest=None) for one in metrics]


async def everything(ps: Penstock, sequences: list[int]) -> tuple[list[Stats], list[Metrics]]:
    """What is counted now, and after each of these events."""
    now = await ps.jobs.stats()
    then = [await ps.jobs.stats(at=sequence) for sequence in sequences]
    return [now, *then], without_ages(await ps.jobs.metrics())


async def test_archived_jobs_are_counted_as_before_and_by_a_view_made_anew(
    worked: Penstock,
) -> None:
    ps = worked
    sequences = [record.sequence for record in await records(ps)]
    before = await everything(ps, sequences)
    await archived(ps, 5)
    async with asyncio.timeout(60):
        while [job.id for job in await ps.jobs.list()] != ["waits"]:
            await asyncio.sleep(0.02)
    assert await everything(ps, sequences) == before
    [made] = await tallies(ps)
    assert made.jobs == 5
    await made_anew(ps)
    assert await everything(ps, sequences) == before


async def test_an_erased_job_counts_for_what_it_came_to_and_for_nothing_if_it_had_not_ended(
    worked: Penstock,
) -> None:
    ps = worked
    for id in ("d1", "waits"):
        await ps.session.command(ERASE["jobs"](reason="asked for"), id=id)
    async with asyncio.timeout(60):
        while (await ps.jobs.stats()).total.pending:
            await asyncio.sleep(0.02)
    for _ in ("as it is", "made anew"):
        total = (await ps.jobs.stats()).total
        assert (total.completed, total.failed, total.pending) == (4, 1, 0)
        await made_anew(ps)
    assert len(await tallies(ps)) == 2
    for made in await tallies(ps):
        assert b"d1" not in msgspec.json.encode(made)


async def test_what_is_tallied_again_after_a_crash_is_tallied_once(worked: Penstock) -> None:
    ps = worked
    log = JetStreamEventLog(ps.session.bus, "jobs")
    gone = {id: (await log.load(id)).events for id in ("d1", "d2")}
    archive = wrap(
        ARCHIVE["jobs"](before={}),
        id="the-command",
        subject="archive",
        time=datetime.now(UTC),
        correlationid="f",
    )
    await Tallying(log).archived(archive, gone)
    await Tallying(log).archived(archive, gone)
    [made] = await tallies(ps)
    assert made.jobs == 2
    await log.close()


def story(ended: datetime) -> list[Recorded]:
    """The events of a job that took a second."""
    return [
        Recorded(place, event)
        for place, event in enumerate(
            (
                _event(JobQueued(name="n", payload={}, queue="q"), 1, ended),
                _event(JobStarted(attempt=1, worker="w", item=1), 2, ended),
                _event(JobCompleted(attempt=1), 3, ended + timedelta(seconds=1)),
            ),
            1,
        )
    ]


def _event(data: msgspec.Struct, version: int, time: datetime) -> Envelope:
    return wrap(data, id=f"e{version}", subject="a", time=time, correlationid="f", version=version)


def test_a_tally_of_very_many_events_comes_in_parts_that_are_small_and_whole_together() -> None:
    now = datetime.now(UTC)
    jobs = [story(now - timedelta(seconds=10 * n)) for n in range(1500)]
    parts = tally(jobs, now)
    assert len(parts) > 4
    assert [part.jobs for part in parts] == [1500] + [0] * (len(parts) - 1)
    assert max(len(msgspec.json.encode(part)) for part in parts) < 200_000
    assert sum(one.count for part in parts for one in part.counts if one.what == "c") == 1500
    assert sum(len(one.sequences) for part in parts for one in part.steps) == 4500


@pytest.mark.parametrize(("days", "exact_to"), [(1, 1), (5, 60), (60, 3600), (500, 86_400)])
def test_a_tally_counts_as_finely_as_counts_of_its_age_are_kept(days: int, exact_to: int) -> None:
    now = datetime.now(UTC)
    ended = now - timedelta(days=days)
    [made] = tally([story(ended)], now)
    assert {one.size for one in made.counts if one.what == "c"} == {exact_to}
    assert bool(made.steps) == (days < 2)
    db = apsw.Connection(":memory:")
    db.execute(FRAME_SCHEMA + JobView.schema)
    event = _event(made, 1, now)
    TallyView().fold(db, [Folded(9, event, made, evolve(None, made, event))])
    for at, completed in ((ended - timedelta(seconds=exact_to), 0), (now, 1)):
        found = stats(db, AskStats(at=at.isoformat()))
        assert found.total.completed == completed
