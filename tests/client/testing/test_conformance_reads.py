"""Dead letters, reruns and what is told of queues, in memory and on the real system alike."""

from __future__ import annotations

from datetime import timedelta

import pytest

from penstock.client import InvalidMessage, NotFound, Refused
from support.either_system import SOON, Running
from support.workers import event_names


async def dead(running: Running, **filters: str) -> list[str]:
    return [job.id async for job in running.ps.jobs.dead(**filters)]  # type: ignore[arg-type]


async def fail(running: Running, *ids: str) -> None:
    """Have jobs fail, by the handler that their id begins with."""
    for id in ids:
        await running.ps.jobs.enqueue(id.partition("-")[0], id=id, max_attempts=1, backoff=SOON)
    await running.all_over(*ids)


async def test_dead_jobs_are_listed_and_counted_by_what_they_failed_of(running: Running) -> None:
    # In memory all have come at one time, and are listed by their ids then.
    await fail(running, "broken", "hopeless-1", "hopeless-2", "odd", "useless")
    assert await dead(running) == ["odd", "hopeless-2", "hopeless-1", "broken"]
    assert await dead(running, error="OSError") == ["hopeless-2", "hopeless-1"]
    assert await dead(running, cause="permanent", name="odd") == ["odd"]
    counts = [(one.error, one.count) for one in await running.ps.jobs.dead_counts()]
    assert counts == [("OSError", 2), ("PermanentFailure", 1), ("TypeError", 1)]


async def test_a_dead_job_is_redriven_with_new_budgets(running: Running) -> None:
    await fail(running, "flaky")
    assert (await running.ps.jobs.redrive("flaky", "mended")).attempt == 0
    job = await running.over("flaky")
    assert (job.state, job.result, len(job.errors)) == ("completed", "at last", 1)
    assert (await event_names(running.ps, "flaky"))[2:4] == ["failed", "redriven"]
    with pytest.raises(Refused, match="penstock jobs rerun"):
        await running.ps.jobs.redrive("flaky")


async def test_all_of_one_error_are_redriven_or_discarded(running: Running) -> None:
    await fail(running, "hopeless-1", "hopeless-2", "broken")
    await running.ps.queues.pause("default")
    assert (await running.ps.jobs.redrive_all(error="OSError")).done == 2
    assert await dead(running) == ["broken"]
    assert (await running.ps.jobs.discard_all()).done == 1
    assert await dead(running) == []
    assert (await running.ps.jobs.get("broken")).state == "failed"
    with pytest.raises(Refused, match="only failed ones"):
        await running.ps.jobs.discard("hopeless-1")


async def test_a_failed_job_runs_again_with_its_input_and_is_compared(running: Running) -> None:
    await fail(running, "flaky")
    again = await running.ps.jobs.rerun("flaky", command_id="again")
    assert (again.id, again.max_attempts) == ("again", 1)
    assert (await running.over("again")).result == "at last"
    compared = await running.ps.jobs.compare("flaky", "again")
    assert (compared.one.state, compared.other.state, compared.same) == (
        "failed",
        "completed",
        False,
    )
    assert [job.id for job in await running.ps.jobs.list(rerun_of="flaky")] == ["again"]
    with pytest.raises(NotFound):
        await running.ps.jobs.rerun("never")


async def test_jobs_are_counted_by_state_queue_and_name(running: Running) -> None:
    await fail(running, "broken", "useless")
    await running.over((await running.ps.jobs.enqueue("greet", {"user": "ada"})).id)
    await running.ps.jobs.enqueue("greet", {"user": "ada"}, queue="other")
    stats = await running.ps.jobs.stats()
    counted = {(one.queue, one.name): one for one in stats.counts}
    assert counted["default", "broken"].failed == counted["default", "useless"].cancelled == 1
    assert (stats.total.completed, stats.total.pending) == (1, 1)
    assert (await running.ps.jobs.stats(queue="other")).total.pending == 1
    first = (await running.ps.jobs.history("broken"))[0]
    before = await running.ps.jobs.stats(at=first.time - timedelta(seconds=1))
    assert (before.counts, before.exact_to) == ((), 1)
    with pytest.raises(InvalidMessage, match="is to come"):
        await running.ps.jobs.stats(at=first.time + timedelta(days=1))


async def test_queues_tell_their_depth_rates_and_latencies(running: Running) -> None:
    await fail(running, "broken")
    await running.over((await running.ps.jobs.enqueue("greet", {"user": "ada"})).id)
    await running.ps.jobs.enqueue("greet", {"user": "ada"}, delay=100)
    await running.ps.jobs.enqueue("greet", {"user": "ada"}, queue="other", priority=9)
    found = {(one.queue, one.name): one for one in await running.ps.jobs.metrics()}
    queue = found["default", None]
    assert (queue.waiting, queue.delayed, queue.processing, queue.oldest) == (0, 1, 0, None)
    five = queue.rates[1]
    assert [round(rate * 300) for rate in (five.enqueued, five.completed, five.failed)] == [3, 1, 1]
    assert queue.run and queue.wait and (queue.run.count, queue.wait.count) == (2, 2)
    assert found["other", None].oldest is not None
    depths = {
        (one.queue, one.priority): (one.waiting, one.delayed)
        for one in await running.ps.jobs.queues()
    }
    assert depths == {("default", 5): (0, 1), ("other", 9): (1, 0)}


async def test_jobs_are_found_by_what_they_came_from(running: Running) -> None:
    await running.ps.jobs.enqueue("parent", id="p", tags=["family"])
    await running.all_over("p", "p.1")
    for asked, ids in (({"tag": "family"}, ["p"]), ({"parent": "p"}, ["p.1"]), ({"tag": "x"}, [])):
        assert [job.id for job in await running.ps.jobs.list(**asked)] == ids  # type: ignore[arg-type]
    first = (await running.ps.jobs.get("p")).created
    late = await running.ps.jobs.list(since=first + timedelta(hours=1))
    assert late == []
    with pytest.raises(InvalidMessage, match=r"\$\.limit"):
        await running.ps.jobs.list(limit=0)
    with pytest.raises(NotFound, match="go on after"):
        await running.ps.jobs.list(before="never")


async def test_it_is_told_what_a_job_waits_for(running: Running) -> None:
    jobs = running.ps.jobs
    await running.ps.queues.pause("other", "repairs")
    await jobs.enqueue("greet", {"user": "ada"}, id="time", delay=100)
    await jobs.enqueue("greet", {"user": "ada"}, id="queue", queue="other")
    await jobs.enqueue("greet", {"user": "ada"}, id="worker", queue="nobodys")
    for id in ("time", "queue", "worker"):
        assert (await jobs.why(id)).waits_for == (id,)
    with pytest.raises(NotFound):
        await jobs.why("never")


async def test_workers_and_the_names_that_nobody_knows_are_told(running: Running) -> None:
    jobs = running.ps.jobs
    await jobs.enqueue("nobody", id="n")
    await running.seen(jobs.workers, lambda workers: len(workers) == 1)
    [worker] = await jobs.workers()
    assert (worker.queues, worker.status) == (("default",), "working")
    known = {one.name: one for one in await jobs.handlers()}
    assert known["greet"].workers == (worker.name,)
    assert known["greet"].payloads[0]["$defs"] or known["greet"].payloads[0]["properties"]
    assert (known["nobody"].workers, known["nobody"].waiting) == ((), 1)


async def test_a_jobs_end_is_estimated_by_the_history_of_its_name(running: Running) -> None:
    jobs = running.ps.jobs
    waits = await jobs.enqueue("greet", {"user": "ada"}, delay=100)
    await running.seen(jobs.workers, lambda workers: len(workers) == 1)
    assert "has run yet" in str((await jobs.estimate(waits.id)).unknown)
    ran = await running.over((await jobs.enqueue("greet", {"user": "ada"})).id)
    expected = await jobs.estimate(waits.id)
    assert (expected.history, expected.unknown, expected.starts) == (1, None, waits.run_at)
    assert (await jobs.estimate(ran.id)).ends == ran.ended


async def test_progresses_are_listed_the_newest_first(running: Running) -> None:
    progress = running.ps.progress
    for id in ("a", "b"):
        await progress.create(id)
    await progress.complete("a")
    assert [one.id for one in await progress.list(state="completed")] == ["a"]
    assert {one.id for one in await progress.list()} == {"a", "b"}
