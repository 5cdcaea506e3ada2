"""Unique jobs, over a real server: of jobs with the same key there is one."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from penstock.client import Duplicate, JobSpec, Penstock, Rules
from penstock.contracts.jobs import SERVICE
from penstock.contracts.subjects import EXPECTED
from penstock.infra.host import Host
from penstock.infra.testing import running_system
from penstock.jobs.service import build
from penstock.jobs.unique_key import Holder
from support.workers import NewWorker, Serve, event_names


def register(ps: Penstock, key: str) -> str:
    return ps.session.bus.subjects.decision(SERVICE, f"gate:unique:{key}", "holder")


async def put(ps: Penstock, key: str, holder: Holder, expected: int = 0) -> None:
    body = msgspec.json.encode(holder)
    await ps.session.bus.publish_acked(register(ps, key), body, {EXPECTED: str(expected)})


async def test_a_second_job_with_the_key_is_the_first_until_that_is_over(
    ps: Penstock, serve: Serve, new_worker: NewWorker
) -> None:
    first = await ps.jobs.enqueue("sync", {"n": 1}, unique_key="customer:42")
    second = await ps.jobs.enqueue("sync", {"n": 2}, unique_key="customer:42", delay=60)
    assert (second.id, second.payload) == (first.id, {"n": 1})
    with pytest.raises(Duplicate, match="unique key 'customer:42' until it is over") as raised:
        await ps.jobs.enqueue("sync", unique_key="customer:42", on_duplicate="raise")
    assert raised.value.fields["id"] == first.id
    assert (await ps.jobs.enqueue("sync", unique_key="customer:43")).id != first.id
    worker = new_worker()

    @worker.register_handler("sync")
    async def sync(n: int = 0) -> int:
        return n

    await serve(worker)
    await ps.jobs.result(first.id)
    third = await ps.jobs.enqueue("sync", {"n": 3}, unique_key="customer:42")
    assert third.id != first.id
    assert await ps.jobs.result(third.id) == 3


async def test_a_key_for_a_period_outlasts_its_job_and_ends_with_it(ps: Penstock) -> None:
    first = await ps.jobs.enqueue("sync", unique_key="k", unique_for=timedelta(seconds=1.5))
    await ps.jobs.cancel(first.id)
    with pytest.raises(Duplicate, match=r"until \d{4}-"):
        await ps.jobs.enqueue("sync", unique_key="k", on_duplicate="raise")
    async with asyncio.timeout(60):
        while (await ps.jobs.enqueue("sync", unique_key="k")).id == first.id:
            await asyncio.sleep(0.05)
    assert datetime.now(UTC) - first.created >= timedelta(seconds=1.5)


async def test_the_same_command_again_is_the_same_job(ps: Penstock) -> None:
    for _ in range(2):
        job = await ps.jobs.enqueue("sync", unique_key="k", command_id="c", on_duplicate="raise")
        assert job.id == "c"
    assert await event_names(ps, "c") == ["queued"]


async def test_of_many_at_once_on_two_instances_one_is_enqueued(
    ps: Penstock, system: Host, nats_url: str, prefix: str, tmp_path: Path
) -> None:
    async with running_system(nats_url, prefix, tmp_path / "2", {"jobs": build}):
        jobs = await asyncio.gather(*(ps.jobs.enqueue("sync", unique_key="k") for _ in range(20)))
    assert len({job.id for job in jobs}) == 1
    assert len(await ps.jobs.list()) == 1


async def test_of_many_in_one_command_one_is_enqueued(ps: Penstock) -> None:
    rules = Rules(unique_key="k")
    specs = [JobSpec(id=f"j-{n}", name="sync", rules=rules) for n in range(5)]
    told = [one async for one in ps.jobs.enqueue_many(specs)]
    refused = [one for one in told if one.problem]
    assert len(refused) == 4
    assert {one.problem.type for one in refused if one.problem} == {"urn:penstock:error:duplicate"}
    assert len(await ps.jobs.list()) == 1


async def test_a_key_of_one_that_died_before_its_job_was_stored_is_free_again(
    ps: Penstock,
) -> None:
    await put(ps, "k", Holder("never", datetime.now(UTC) - timedelta(seconds=2.5)))
    job = await ps.jobs.enqueue("sync", unique_key="k", on_duplicate="raise")
    assert await event_names(ps, job.id) == ["queued"]


async def test_a_job_that_lost_its_key_before_it_was_stored_is_cancelled(
    ps: Penstock, system: Host
) -> None:
    """Its enqueuer was so slow that another one took the key that it had reserved."""
    first = await ps.jobs.enqueue("sync", id="slow", unique_key="k", delay=60)
    await ps.jobs.enqueue("sync", id="quick", delay=60)
    [found] = await ps.session.bus.direct_get(
        ps.session.bus.subjects.event_stream(SERVICE), {"last_by_subj": register(ps, "k")}
    )
    await put(ps, "k", Holder("quick", datetime.now(UTC)), found.sequence)
    [jobs] = system.services
    job = await jobs.decider.load(first.id)
    assert job.last is not None
    await jobs.decider._act(job, job.last)  # what comes behind the event
    async for state in ps.jobs.watch(first.id):
        if state.is_over:
            assert (state.state, "'quick' has the unique key" in (state.reason or "")) == (
                "cancelled",
                True,
            )
