"""Many jobs enqueued by few commands: each is as if it had been enqueued by itself."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest

from penstock.client import Enqueued, JobSpec, Penstock
from penstock.contracts.errors import InvalidMessage, Refused, TooLarge, from_problem
from penstock.contracts.jobs import MAX_INLINE, SERVICE, Rules
from penstock.contracts.jobs_bulk import EnqueuedJobs, EnqueueJobs
from support.streams import everything
from support.workers import NewWorker, Serve, event_names, nothing_left, stored

Jobs = list[Enqueued]


async def enqueued(ps: Penstock, *jobs: JobSpec, **how: object) -> Jobs:
    return [one async for one in ps.jobs.enqueue_many(jobs, **how)]  # type: ignore[arg-type]


def tasks(count: int) -> list[JobSpec]:
    return [JobSpec(id=f"j{n}", name="add", payload={"n": n}) for n in range(count)]


async def test_many_jobs_run_and_each_is_told_in_its_order(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker()
    done: set[int] = set()

    @worker.register_handler("add")
    async def add(n: int) -> int:
        done.add(n)
        return n

    await serve(worker)
    found = await enqueued(ps, *tasks(700))
    assert [one.id for one in found] == [f"j{n}" for n in range(700)]
    assert not any(one.existed or one.problem for one in found)
    sequences = [one.sequence for one in found]
    assert len(set(sequences)) == 700
    async with asyncio.timeout(30):
        assert await ps.jobs.result("j699", timeout=30) == 699
        while len(done) < 700:
            await asyncio.sleep(0.02)
    await nothing_left(ps)
    job = await ps.jobs.get("j5", at=found[5].sequence)
    assert (job.state, job.payload, job.queue, job.priority) == ("pending", {"n": 5}, "default", 5)
    assert await event_names(ps, "j5") == ["queued", "started", "completed"]


async def test_what_was_written_is_read_at_once(ps: Penstock) -> None:
    assert [one.id for one in await enqueued(ps, *tasks(3))] == ["j0", "j1", "j2"]
    assert {job.id for job in await ps.jobs.list()} == {"j0", "j1", "j2"}


async def test_jobs_without_an_id_get_one_each_from_the_command(ps: Penstock) -> None:
    jobs = [JobSpec(name="add") for _ in range(3)]
    first = await enqueued(ps, *jobs, command_id="c", chunk=2)
    assert [one.id for one in first] == ["c-0-0", "c-0-1", "c-1-0"]
    assert await enqueued(ps, *jobs, command_id="c", chunk=2) == first
    assert await stored(ps, "work") == 3


async def test_what_is_not_valid_is_refused_by_itself(ps: Penstock) -> None:
    jobs = [
        JobSpec(id="good", name="add"),
        JobSpec(id="nameless", name=""),
        JobSpec(id="queue:a", name="add"),
        JobSpec(id="", name="add"),
        JobSpec(id="large", name="add", payload={"text": "x" * MAX_INLINE}),
        JobSpec(id="larger", name="add", payload={"text": "x" * 2 * MAX_INLINE}),
        JobSpec(id="secret", name="add", payload={"what": object()}),
        JobSpec(id="fine", name="add"),
    ]
    found = await enqueued(ps, *jobs)
    assert [one.problem and type(from_problem(one.problem)) for one in found] == [
        None,
        InvalidMessage,
        InvalidMessage,
        InvalidMessage,
        TooLarge,
        TooLarge,
        InvalidMessage,
        None,
    ]
    assert found[1].problem and "$.jobs[1].name" in found[1].problem.detail
    assert await stored(ps, "work") == 2


async def test_a_job_that_is_there_is_told_and_another_of_its_id_refused(ps: Penstock) -> None:
    there = await ps.jobs.enqueue("add", {"n": 1}, id="j1")
    await ps.jobs.cancel("j1")
    found = await enqueued(
        ps, *tasks(3), JobSpec(id="j2", name="add", payload={"n": 2}), JobSpec(id="j0", name="b")
    )
    assert [(one.id, one.existed, one.state) for one in found[:4]] == [
        ("j0", False, "pending"),
        ("j1", True, "cancelled"),
        ("j2", False, "pending"),
        ("j2", True, "pending"),
    ]
    assert found[1].sequence > found[2].sequence - 3 and there.id == "j1"
    assert found[4].problem and type(from_problem(found[4].problem)) is Refused
    assert await event_names(ps, "j1") == ["queued", "cancelled"]


async def test_the_id_of_the_whole_is_no_id_of_a_job(ps: Penstock) -> None:
    job = msgspec.Raw(msgspec.json.encode(JobSpec(id="all", name="add")))
    outcome = await ps.session.command(EnqueueJobs(jobs=(job,)), id="all", command_id="c")
    [found] = msgspec.json.decode(outcome.data, type=EnqueuedJobs).jobs
    assert found.problem and "the id of all these jobs" in found.problem.detail


async def test_a_job_with_rules_goes_the_way_of_one_by_itself(ps: Penstock) -> None:
    [found] = await enqueued(ps, JobSpec(id="j", name="add", rules=Rules(timeout=5.0)))
    assert (found.id, found.existed, found.problem) == ("j", False, None)
    assert (await ps.jobs.get("j")).rules.timeout == 5.0


async def test_delayed_jobs_wait_for_their_time(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker()

    @worker.register_handler("add")
    async def add(n: int) -> int:
        return n

    await serve(worker)
    later = [JobSpec(id=f"l{n}", name="add", payload={"n": n}, delay=1.0) for n in range(20)]
    await enqueued(ps, *later)
    assert await stored(ps, "work") == 0
    assert [await ps.jobs.result(f"l{n}", timeout=60) for n in range(20)] == list(range(20))


async def test_no_more_is_taken_than_is_on_its_way(ps: Penstock) -> None:
    taken = 0

    def endless() -> Iterator[JobSpec]:
        nonlocal taken
        while True:
            taken += 1
            yield JobSpec(name="add")

    stream = ps.jobs.enqueue_many(endless(), chunk=10, in_flight=3)
    for _ in range(25):
        await anext(stream)
        assert taken <= 10 * (3 + 1 + 2)
    await stream.aclose()  # type: ignore[attr-defined]


async def test_jobs_may_come_as_they_are_made(ps: Penstock) -> None:
    async def made() -> AsyncIterator[JobSpec]:
        for job in tasks(3):
            await asyncio.sleep(0)
            yield job

    assert [one.id async for one in ps.jobs.enqueue_many(made())] == ["j0", "j1", "j2"]


async def test_too_large_a_chunk_is_refused(ps: Penstock) -> None:
    with pytest.raises(ValueError, match="1 to 500 jobs"):
        await enqueued(ps, *tasks(1), chunk=501)
    jobs = tuple(msgspec.Raw(b"{}") for _ in range(501))
    with pytest.raises(InvalidMessage, match="jobs"):
        await ps.session.command(EnqueueJobs(jobs=jobs), id=uuid.uuid4().hex)


async def test_their_events_are_stored_in_batches(ps: Penstock) -> None:
    await enqueued(ps, *tasks(100))
    bus = ps.session.bus
    for stream in (bus.subjects.event_stream(SERVICE), bus.subjects.stream("work")):
        assert len(await everything(bus, stream)) == 100
    events = await everything(bus, bus.subjects.event_stream(SERVICE))
    assert all(b"Nats-Batch-Id" in message for message in events)
