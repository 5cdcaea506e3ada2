"""Jobs as an application sees them: the SDK, HTTP and a worker over a real server."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from penstock.client import Backoff, JobContext, Penstock, PermanentFailure
from penstock.contracts.answers import HistoryEntry
from penstock.contracts.errors import InvalidMessage, JobFailed, NotFound, Refused, Timeout
from penstock.infra.host import Host
from support.workers import NewWorker, Serve

SOON = Backoff(initial=0.1, maximum=0.2)


def names(history: list[HistoryEntry]) -> list[str]:
    return [entry.type.split(".")[2] for entry in history]


async def messages(ps: Penstock, stream: str) -> int:
    """How many messages a stream holds."""
    bus = ps.session.bus
    info = await bus.api(f"STREAM.INFO.{bus.subjects.stream(stream)}")
    return int(info["state"]["messages"])


async def left_over(ps: Penstock) -> tuple[int, int]:
    """Work items and timers, once the acknowledgements on their way have arrived."""
    async with asyncio.timeout(5):
        while any(left := (await messages(ps, "work"), await messages(ps, "sched"))):
            await asyncio.sleep(0.02)
    return left


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
    assert await ps.jobs.result(job.id, timeout=10) == {"sum": 3}
    done = await ps.jobs.get(job.id)
    assert (done.state, done.attempt, done.worker) == ("completed", 1, worker.name)
    assert await ps.jobs.get_status(job.id) == "completed"
    history = await ps.jobs.history(job.id)
    assert names(history) == ["queued", "started", "completed"]
    assert [entry.causationtype for entry in history] == [
        "penstock.jobs.enqueue.v1",
        "penstock.jobs.queued.v1",
        "penstock.jobs.started.v1",
    ]
    assert [entry.version for entry in history] == [1, 2, 3]
    assert (await ps.jobs.get(job.id, at=history[1].sequence)).state == "processing"
    assert await left_over(ps) == (0, 0)


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
    assert await ps.jobs.result(job.id, timeout=20) == 3
    job = await ps.jobs.get(job.id)
    assert (job.attempt, [error.type for error in job.errors]) == (3, ["ConnectionError"] * 2)
    expected = ["queued", "started", "retrying", "started", "retrying", "started", "completed"]
    assert names(await ps.jobs.history(job.id)) == expected
    assert await left_over(ps) == (0, 0)


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
        await ps.jobs.result(job.id, timeout=20)
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
        await ps.jobs.result(job.id, timeout=10)
    assert names(await ps.jobs.history(job.id)) == ["queued", "started", "failed"]


async def test_a_payload_of_the_wrong_type_fails_the_job_at_once_and_says_where(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker()

    @worker.register_handler("typed")
    async def typed(sizes: list[int]) -> None:
        raise AssertionError("must not be called")

    await serve(worker)
    job = await ps.jobs.enqueue("typed", {"sizes": [1, "2"]})
    with pytest.raises(JobFailed, match=r"\$\.payload\.sizes\[1\]"):
        await ps.jobs.result(job.id, timeout=10)
    assert (await ps.jobs.get(job.id)).attempt == 1


@pytest.mark.parametrize(
    ("result", "why"), [("x" * 600_000, "at most 524288"), (object(), "unsupported")]
)
async def test_a_result_that_cannot_be_kept_fails_the_job_at_once(
    ps: Penstock, new_worker: NewWorker, serve: Serve, result: Any, why: str
) -> None:
    worker = new_worker()

    @worker.register_handler("give")
    async def give() -> Any:
        return result

    await serve(worker)
    job = await ps.jobs.enqueue("give")
    with pytest.raises(JobFailed, match=why):
        await ps.jobs.result(job.id, timeout=10)


async def test_a_delayed_job_waits_for_its_time(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker()

    @worker.register_handler("when")
    async def when() -> float:
        return datetime.now(UTC).timestamp()

    await serve(worker)
    job = await ps.jobs.enqueue("when", delay=timedelta(seconds=1))
    assert (job.state, await messages(ps, "work")) == ("pending", 0)
    assert job.run_at is not None
    [depth] = await ps.jobs.queues()
    assert (depth.waiting, depth.delayed) == (0, 1)
    ran = await ps.jobs.result(job.id, timeout=10)
    assert 0 <= ran - job.run_at.timestamp() < 2
    assert await left_over(ps) == (0, 0)


async def test_higher_priorities_go_first_and_the_lowest_still_moves(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker, order = new_worker(concurrency=1), list[int]()

    @worker.register_handler("note")
    async def note(priority: int) -> None:
        order.append(priority)

    for priority in [0] * 4 + [5] * 10 + [9] * 20:
        last = await ps.jobs.enqueue("note", {"priority": priority}, priority=priority)
    await serve(worker)
    async with asyncio.timeout(20):
        while len(order) < 34:
            await asyncio.sleep(0.02)
    first_twenty = order[:20]
    assert order[:7] == [9] * 7
    assert first_twenty.count(9) >= 17
    assert first_twenty.count(5) == first_twenty.count(0) == 1
    await ps.jobs.result(last.id, timeout=10)


async def test_a_job_that_waits_is_cancelled_with_its_item_and_its_timer(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    waiting = await ps.jobs.enqueue("never")
    delayed = await ps.jobs.enqueue("never", delay=1)
    assert (await messages(ps, "work"), await messages(ps, "sched")) == (1, 1)
    for job in (waiting, delayed):
        cancelled = await ps.jobs.cancel(job.id, "enough")
        assert (cancelled.state, cancelled.reason) == ("cancelled", "enough")
        with pytest.raises(JobFailed, match="was cancelled: enough"):
            await ps.jobs.result(job.id, timeout=10)
    assert (await messages(ps, "work"), await messages(ps, "sched")) == (0, 0)
    with pytest.raises(NotFound):
        await ps.jobs.cancel("nobody's")


async def test_a_timer_that_comes_too_late_does_nothing(ps: Penstock, system: Host) -> None:
    job = await ps.jobs.enqueue("never", delay=3600)
    bus, subjects = ps.session.bus, ps.session.bus.subjects
    stream, subject = subjects.stream("sched"), subjects.timer("jobs", job.id)
    [timer] = await bus.direct_get(stream, {"last_by_subj": subject})
    await ps.jobs.cancel(job.id)
    await bus.publish_acked(subjects.due("jobs", job.id), timer.data)
    assert await left_over(ps) == (0, 0)
    assert names(await ps.jobs.history(job.id)) == ["queued", "cancelled"]


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
    await asyncio.wait_for(running.wait(), 10)
    assert (await ps.jobs.cancel(job.id)).state == "cancelled"
    await asyncio.wait_for(stopped.wait(), 5)
    following = await ps.jobs.enqueue("short")
    assert await ps.jobs.result(following.id, timeout=10) == "done"
    assert names(await ps.jobs.history(job.id)) == ["queued", "started", "cancelled"]
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
    assert await ps.jobs.result("a/b", timeout=10) == 1
    again = await ps.jobs.enqueue("once", {"n": 1}, id="a/b")
    assert (again.state, again.result) == ("completed", 1)
    with pytest.raises(Refused, match="another name or payload"):
        await ps.jobs.enqueue("once", {"n": 2}, id="a/b")
    by_command = await ps.jobs.enqueue("once", {"n": 3}, command_id="c-1")
    assert (await ps.jobs.enqueue("once", {"n": 3}, command_id="c-1")).id == by_command.id
    await ps.jobs.result(by_command.id, timeout=10)
    assert calls == [1, 3]


async def test_an_item_that_was_not_published_or_was_published_twice_does_no_harm(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    """What a service that died between event and item left, and what its successor repeats."""
    worker, calls = new_worker(), list[int]()

    @worker.register_handler("once")
    async def once() -> int:
        calls.append(1)
        await asyncio.sleep(0.2)
        return len(calls)

    job = await ps.jobs.enqueue("once", command_id="c-1")
    bus, subjects = ps.session.bus, ps.session.bus.subjects
    stream, subject = subjects.stream("work"), subjects.work("default", 5, job.id)
    [item] = await bus.direct_get(stream, {"last_by_subj": subject})
    await bus.publish_acked(subject, item.data)
    await serve(worker)
    assert await ps.jobs.result(job.id, timeout=10) == 1
    assert await left_over(ps) == (0, 0)
    assert calls == [1]
    await bus.publish_acked(subject, item.data)
    assert await left_over(ps) == (0, 0)
    assert calls == [1]


async def test_a_repeated_command_publishes_the_item_that_is_missing(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    job = await ps.jobs.enqueue("late", id="j", command_id="c-1")
    bus = ps.session.bus
    work = bus.subjects.stream("work")
    # Another window, so that the server does not take the repetition for the one it has seen.
    config = (await bus.api(f"STREAM.INFO.{work}"))["config"]
    await bus.api(f"STREAM.UPDATE.{work}", {**config, "duplicate_window": 100_000_000})
    await bus.api(f"STREAM.PURGE.{work}")
    await asyncio.sleep(0.2)
    assert await ps.jobs.enqueue("late", id="j", command_id="c-1") == job
    assert await messages(ps, "work") == 1


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
    async with asyncio.timeout(10):
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


async def test_jobs_are_listed_page_by_page_and_filtered(ps: Penstock) -> None:
    for n in range(5):
        await ps.jobs.enqueue("a" if n % 2 else "b", id=f"j{n}", queue=f"q{n // 3}", priority=n)
    await ps.jobs.cancel("j0")
    first = await ps.jobs.list(limit=2)
    assert [job.id for job in first] == ["j4", "j3"]
    second = await ps.jobs.list(limit=9, before="j3")
    assert [job.id for job in second] == ["j2", "j1", "j0"]
    assert [job.id for job in await ps.jobs.list(name="a")] == ["j3", "j1"]
    assert [job.id for job in await ps.jobs.list(state="pending", queue="q0")] == ["j2", "j1"]
    depths = [(depth.queue, depth.priority, depth.waiting) for depth in await ps.jobs.queues()]
    assert depths == [("q0", 2, 1), ("q0", 1, 1), ("q1", 4, 1), ("q1", 3, 1)]


async def test_http_shows_jobs_their_history_and_the_queues(ps: Penstock, system: Host) -> None:
    command = {"id": "h/1", "data": {"name": "x", "payload": {"a": 1}}}
    async with aiohttp.ClientSession(system.http_url) as http:
        async with http.post("/commands/jobs/enqueue?wait=10", json=command) as response:
            assert (response.status, (await response.json())["data"]["state"]) == (200, "pending")

        async def get(path: str) -> Any:
            async with http.get(path) as response:
                assert response.status == 200, path
                return (await response.json())["data"]

        assert [job["id"] for job in await get("/jobs?min_seq=1")] == ["h/1"]
        assert (await get("/jobs/h%2F1"))["payload"] == {"a": 1}
        assert (await get("/jobs/h%2F1/history"))[0]["type"] == "penstock.jobs.queued.v1"
        assert (await get("/jobs/queues"))[0]["waiting"] == 1


async def test_a_queue_may_have_any_name(ps: Penstock, new_worker: NewWorker, serve: Serve) -> None:
    worker = new_worker(queues=["a.b c/d>*"])

    @worker.register_handler("here")
    async def here() -> str:
        return "here"

    await serve(worker)
    job = await ps.jobs.enqueue("here", queue="a.b c/d>*")
    assert await ps.jobs.result(job.id, timeout=10) == "here"
