"""Jobs as an application sees them: the SDK, HTTP and a worker over a real server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from penstock.client import Backoff, JobContext, Penstock, PermanentFailure
from penstock.client.session import caused_by
from penstock.contracts.answers import FlowOf, HistoryEntry
from penstock.contracts.errors import InvalidMessage, JobFailed, Refused, Timeout, TooLarge
from penstock.infra.sender import Cause
from support.workers import NewWorker, Serve, event_names, nothing_left

SOON = Backoff(initial=0.1, maximum=0.2)


async def test_a_job_runs_with_its_payload_and_gives_its_result(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker()

    @worker.register_handler("add")
    async def add(a: int, b: int = 2) -> dict[str, int]:
        return {"sum": a + b}

    await serve(worker)
    job = await ps.jobs.enqueue("add", {"a": 1}, tags=["x"])
    assert (job.state, job.queue, job.priority, job.tags) == ("pending", "default", 5, ("x",))
    assert await ps.jobs.result(job.id, timeout=60) == {"sum": 3}
    done = await ps.jobs.get(job.id)
    assert (done.state, done.attempt, done.worker) == ("completed", 1, worker.name)
    assert await ps.jobs.get_status(job.id) == "completed"
    history = await ps.jobs.history(job.id)
    assert await event_names(ps, job.id) == ["queued", "started", "completed"]
    assert [entry.causationtype for entry in history] == [
        "penstock.jobs.enqueue.v1",
        "penstock.jobs.queued.v1",
        "penstock.jobs.started.v1",
    ]
    assert [entry.version for entry in history] == [1, 2, 3]
    assert (await ps.jobs.get(job.id, at=history[1].sequence)).state == "processing"
    await nothing_left(ps)


async def test_a_job_that_fails_is_tried_again_until_it_succeeds(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker()

    @worker.register_handler("flaky")
    async def flaky(attempts: int) -> int:
        calls.append(attempts)
        if len(calls) < attempts:
            raise ConnectionError("not yet")
        return len(calls)

    calls: list[int] = []
    await serve(worker)
    job = await ps.jobs.enqueue("flaky", {"attempts": 3}, backoff=SOON)
    assert await ps.jobs.result(job.id, timeout=60) == 3
    job = await ps.jobs.get(job.id)
    assert (job.attempt, [error.type for error in job.errors]) == (3, ["ConnectionError"] * 2)
    expected = ["queued", "started", "retrying", "started", "retrying", "started", "completed"]
    assert await event_names(ps, job.id) == expected
    await nothing_left(ps)


async def test_a_job_fails_when_its_attempts_are_spent(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker()

    @worker.register_handler("broken")
    def broken() -> None:
        raise StopIteration("no \udc80 more")  # neither crosses a thread or JSON unharmed

    await serve(worker)
    job = await ps.jobs.enqueue("broken", max_attempts=2, backoff=SOON)
    with pytest.raises(JobFailed, match="failed after 2 attempts: StopIteration: no") as e:
        await ps.jobs.result(job.id, timeout=60)
    assert (e.value.fields["id"], e.value.fields["state"]) == (job.id, "failed")
    job = await ps.jobs.get(job.id)
    assert job.error
    assert "raise StopIteration" in job.error.traceback


async def test_a_permanent_failure_is_not_tried_again(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker()

    @worker.register_handler("hopeless")
    async def hopeless() -> None:
        raise PermanentFailure("there is no such file")

    await serve(worker)
    job = await ps.jobs.enqueue("hopeless", max_attempts=5)
    with pytest.raises(JobFailed, match="there is no such file"):
        await ps.jobs.result(job.id, timeout=60)
    assert await event_names(ps, job.id) == ["queued", "started", "failed"]


async def test_a_payload_of_the_wrong_type_fails_the_job_at_once_and_says_where(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker()

    @worker.register_handler("typed")
    async def typed(sizes: list[int]) -> None:
        raise AssertionError("must not be called")

    job = await ps.jobs.enqueue("typed", {"sizes": [1, "2"]})  # nobody is known yet who could tell
    await serve(worker)
    with pytest.raises(JobFailed, match=r"\$\.payload\.sizes\[1\]"):
        await ps.jobs.result(job.id, timeout=60)
    assert (await ps.jobs.get(job.id)).attempt == 1


async def test_a_large_result_is_kept_in_the_object_store(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker()

    @worker.register_handler("give")
    async def give() -> Any:
        return "x" * 3_000_000

    await serve(worker)
    job = await ps.jobs.enqueue("give")
    assert await ps.jobs.result(job.id, timeout=60) == "x" * 3_000_000
    done = await ps.jobs.get(job.id)
    assert done.result is None
    assert done.stored
    assert done.stored.startswith(f"results/give/{job.id}/")


async def test_a_result_that_cannot_be_kept_fails_the_job_at_once(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker()

    @worker.register_handler("give")
    async def give() -> Any:
        return object()

    await serve(worker)
    job = await ps.jobs.enqueue("give")
    with pytest.raises(JobFailed, match="unsupported"):
        await ps.jobs.result(job.id, timeout=60)


async def test_a_running_job_that_is_cancelled_is_stopped_and_its_worker_goes_on(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker(concurrency=1, lease=1)
    running, stopped = asyncio.Event(), asyncio.Event()

    @worker.register_handler("long")
    async def long() -> None:
        running.set()
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    @worker.register_handler("short")
    async def short() -> str:
        return "done"

    await serve(worker)
    job = await ps.jobs.enqueue("long")
    await asyncio.wait_for(running.wait(), 60)
    assert (await ps.jobs.cancel(job.id)).state == "cancelled"
    await asyncio.wait_for(stopped.wait(), 30)
    following = await ps.jobs.enqueue("short")
    assert await ps.jobs.result(following.id, timeout=60) == "done"
    assert await event_names(ps, job.id) == ["queued", "started", "cancelled"]
    with pytest.raises(Refused, match="completed already"):
        await ps.jobs.cancel(following.id)


async def test_the_same_id_again_is_the_same_job_and_has_no_second_effect(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker, calls = new_worker(), list[int]()

    @worker.register_handler("once")
    async def once(n: int) -> int:
        calls.append(n)
        return n

    first = await ps.jobs.enqueue("once", {"n": 1}, id="a/b")
    assert await ps.jobs.enqueue("once", {"n": 1}, id="a/b") == first
    await serve(worker)
    assert await ps.jobs.result("a/b", timeout=60) == 1
    again = await ps.jobs.enqueue("once", {"n": 1}, id="a/b")
    assert (again.state, again.result) == ("completed", 1)
    with pytest.raises(Refused, match="another name or payload"):
        await ps.jobs.enqueue("once", {"n": 2}, id="a/b")
    by_command = await ps.jobs.enqueue("once", {"n": 3}, command_id="c-1")
    assert (await ps.jobs.enqueue("once", {"n": 3}, command_id="c-1")).id == by_command.id
    await ps.jobs.result(by_command.id, timeout=60)
    assert calls == [1, 3]


async def test_what_a_handler_sends_belongs_to_the_jobs_flow(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker()

    @worker.register_handler("parent")
    async def parent(ctx: JobContext) -> str:
        return (await ctx.ps.jobs.enqueue("child", id="child-1")).id

    @worker.register_handler("child")
    def child(ctx: JobContext) -> str:
        return ctx.run(ctx.ps.jobs.enqueue("grandchild", id="child-2")).id

    @worker.register_handler("grandchild")
    async def grandchild() -> None:
        pass

    await serve(worker)
    with ps.correlated("flow-1"):
        await ps.jobs.enqueue("parent", id="p")
    async with asyncio.timeout(60):
        async for _ in ps.jobs.watch("child-2"):
            pass
    for cause, effect in (("p", "child-1"), ("child-1", "child-2")):
        started = (await ps.jobs.history(cause))[1]
        queued = (await ps.jobs.history(effect))[0]
        assert (queued.correlationid, queued.actor) == ("flow-1", "tester")
        # The command stands between the two: its own cause is the attempt.
        assert queued.causationtype == "penstock.jobs.enqueue.v1"
        assert started.correlationid == "flow-1"


async def test_a_result_that_does_not_come_in_time_is_a_timeout(ps: Penstock) -> None:
    job = await ps.jobs.enqueue("nobody-does-this")
    with pytest.raises(Timeout, match="did not end within"):
        await ps.jobs.result(job.id, timeout=0.2)


async def test_what_is_not_valid_is_refused_with_its_path(ps: Penstock) -> None:
    with pytest.raises(InvalidMessage, match=r"data\.priority"):
        await ps.jobs.enqueue("x", priority=10)
    with pytest.raises(InvalidMessage, match=r"data\.max_attempts"):
        await ps.jobs.enqueue("x", max_attempts=0)


async def test_an_answer_that_does_not_fit_says_so(ps: Penstock) -> None:
    with caused_by(Cause(correlationid="large")):
        for _ in range(20):
            await ps.jobs.enqueue("x", {"text": "x" * 500_000})
    with pytest.raises(TooLarge, match="ask for less"):
        await ps.session.ask("jobs", "flow", FlowOf(id="large"), list[HistoryEntry])
