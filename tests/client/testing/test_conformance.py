"""The same scenarios in memory and on the real system, with the same outcome."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.client import (
    InvalidMessage,
    JobFailed,
    JobSpec,
    Refused,
)
from penstock.client.testing import TestSystem
from support.either_system import SOON, Running
from support.workers import event_names


async def test_a_job_runs_and_gives_its_result(running: Running) -> None:
    job = await running.ps.jobs.enqueue("greet", {"user": "ada"})
    done = await running.over(job.id)
    assert await running.ps.jobs.result(job.id) == done.result == "hello ada"
    assert await event_names(running.ps, job.id) == ["queued", "started", "completed"]


async def test_the_same_id_again_is_the_same_job_and_another_payload_is_refused(
    running: Running,
) -> None:
    first = await running.ps.jobs.enqueue("greet", {"user": "ada"}, id="a", delay=100)
    again = await running.ps.jobs.enqueue("greet", {"user": "ada"}, id="a")
    assert again == first
    with pytest.raises(Refused):
        await running.ps.jobs.enqueue("greet", {"user": "bob"}, id="a")


async def test_a_repeated_command_has_one_effect_and_the_same_answer(running: Running) -> None:
    jobs = running.ps.jobs
    first = await jobs.enqueue("greet", {"user": "ada"}, delay=100, command_id="c")
    await jobs.cancel(first.id, command_id="d")
    assert await jobs.enqueue("greet", {"user": "ada"}, delay=100, command_id="c") == first
    assert (await jobs.cancel(first.id, command_id="d")).state == "cancelled"
    assert await event_names(running.ps, first.id) == ["queued", "cancelled"]


async def test_a_delayed_job_waits(running: Running) -> None:
    job = await running.ps.jobs.enqueue("greet", {"user": "ada"}, delay=100)
    assert job.run_at is not None
    assert (job.run_at - job.created).total_seconds() == pytest.approx(100, abs=1)
    assert await running.ps.jobs.get_status(job.id) == "pending"


async def test_a_job_that_raised_is_tried_again(running: Running) -> None:
    job = await running.over((await running.ps.jobs.enqueue("flaky", backoff=SOON)).id)
    assert (job.result, job.attempt, len(job.errors)) == ("at last", 2, 1)
    happened = ["queued", "started", "retrying", "started", "completed"]
    assert await event_names(running.ps, job.id) == happened


async def test_a_job_fails_with_its_last_attempt(running: Running) -> None:
    enqueued = await running.ps.jobs.enqueue("hopeless", backoff=SOON, max_attempts=2)
    job = await running.over(enqueued.id)
    assert (job.state, job.cause, job.attempt) == ("failed", "attempts", 2)


async def test_a_permanent_failure_is_told_by_the_result(running: Running) -> None:
    job = await running.over((await running.ps.jobs.enqueue("broken")).id)
    assert (job.state, job.cause) == ("failed", "permanent")
    with pytest.raises(JobFailed, match="never"):
        await running.ps.jobs.result(job.id)
    assert await event_names(running.ps, job.id) == ["queued", "started", "failed"]


async def test_a_snoozed_job_is_called_again_and_the_attempt_does_not_count(
    running: Running,
) -> None:
    job = await running.over((await running.ps.jobs.enqueue("later")).id)
    assert job.result == 1
    happened = ["queued", "started", "snoozed", "started", "completed"]
    assert await event_names(running.ps, job.id) == happened


async def test_a_discarded_job_is_cancelled(running: Running) -> None:
    job = await running.over((await running.ps.jobs.enqueue("useless")).id)
    assert (job.state, job.reason) == ("cancelled", "nothing to do")


async def test_a_handler_that_exits_fails_its_attempt_only(running: Running) -> None:
    job = await running.over((await running.ps.jobs.enqueue("exits", max_attempts=1)).id)
    assert job.error and (job.error.type, job.error.message) == ("SystemExit", "no")


async def test_a_result_that_json_cannot_carry_fails_the_job_at_once(running: Running) -> None:
    job = await running.over((await running.ps.jobs.enqueue("odd")).id)
    assert job.error and job.error.type == "TypeError"
    assert (job.state, job.cause, job.attempt) == ("failed", "permanent", 1)


async def test_a_job_that_waits_can_be_cancelled(running: Running) -> None:
    job = await running.ps.jobs.enqueue("greet", {"user": "ada"}, delay=100)
    cancelled = await running.ps.jobs.cancel(job.id, "no need")
    assert (cancelled.state, cancelled.reason) == ("cancelled", "no need")
    assert await event_names(running.ps, job.id) == ["queued", "cancelled"]


async def test_an_id_of_something_else_is_refused(running: Running) -> None:
    for id in ("schedule:a", "workflow:a", "queue:a", "gate:a", "x" * 300):
        with pytest.raises(InvalidMessage):
            await running.ps.jobs.enqueue("greet", {"user": "ada"}, id=id)


async def test_what_no_job_can_have_is_refused(running: Running) -> None:
    wrong: list[dict[str, Any]] = [{"priority": 10}, {"delay": -1}, {"max_attempts": 0}]
    for options in wrong:
        with pytest.raises(InvalidMessage, match="not valid at"):
            await running.ps.jobs.enqueue("greet", {"user": "ada"}, **options)


async def test_jobs_of_other_queues_and_unknown_names_wait(running: Running) -> None:
    await running.ps.jobs.enqueue("greet", {"user": "ada"}, id="a", queue="other")
    await running.ps.jobs.enqueue("nobody", id="b")
    await running.over((await running.ps.jobs.enqueue("greet", {"user": "ada"})).id)
    depths = {one.queue: one.waiting for one in await running.ps.jobs.queues()}
    assert depths == {"other": 1, "default": 1}
    assert [job.id for job in await running.ps.jobs.list(state="pending")] == ["b", "a"]


async def test_a_job_that_waits_beyond_its_time_fails(running: Running) -> None:
    job = await running.ps.jobs.enqueue("greet", {"user": "a"}, delay=100, total_timeout=0.05)
    ended = await running.over(job.id)
    assert (ended.state, ended.cause) == ("failed", "timeout")


async def test_what_a_handler_says_is_kept(running: Running) -> None:
    job = await running.over((await running.ps.jobs.enqueue("parent", id="p")).id)
    assert (job.result, job.checkpoint, job.progress) == ("p.1", {"at": 1}, True)
    child = await running.over("p.1")
    assert child.origin is not None and child.origin.parent == "p"
    assert child.correlationid == job.correlationid
    progress = [state async for state in running.ps.progress.watch("p")][-1]
    assert (progress.state, progress.percent, progress.message) == ("completed", 100, "half")
    names = await event_names(running.ps, "p")
    assert sorted(names) == sorted(
        ["queued", "started", "logged", "logged", "checkpointed", "completed"]
    )


async def test_many_jobs_are_told_of_in_their_order(running: Running) -> None:
    specs = [
        JobSpec(id="a", name="greet", payload={"user": "ada"}, delay=100),
        JobSpec(id="gate:b", name="greet", payload={"user": "ada"}),
        JobSpec(id="a", name="greet", payload={"user": "ada"}),
        JobSpec(id="a", name="greet", payload={"user": "bob"}),
    ]
    told = [one async for one in running.ps.jobs.enqueue_many(specs, command_id="m")]
    assert [(one.id, one.existed, one.problem is None) for one in told] == [
        ("a", False, True),
        ("gate:b", False, False),
        ("a", True, True),
        ("a", False, False),
    ]


async def test_a_job_is_told_as_it_was(running: Running) -> None:
    job = await running.ps.jobs.enqueue("greet", {"user": "ada"}, delay=0.01)
    await running.over(job.id)
    first = (await running.ps.jobs.history(job.id))[0]
    for at in (first.sequence, first.time.isoformat()):
        assert (await running.ps.jobs.get(job.id, at=at)).state == "pending"


async def test_jobs_are_listed_page_by_page_the_newest_first(running: Running) -> None:
    for id in ("a", "b", "c"):
        await running.ps.jobs.enqueue("greet", {"user": "ada"}, id=id, delay=100)
    page = await running.ps.jobs.list(name="greet", limit=2)
    rest = await running.ps.jobs.list(name="greet", before=page[-1].id)
    assert [[job.id for job in jobs] for jobs in (page, rest)] == [["c", "b"], ["a"]]


async def test_a_schedule_is_put_paused_and_triggered(running: Running) -> None:
    schedules = running.ps.schedules
    await schedules.put("daily", "greet", {"user": "ada"}, cron="@daily")
    assert (await schedules.pause("daily", "holidays")).next is None
    job = await running.over(await schedules.trigger("daily", command_id="t"))
    assert (job.id, job.result) == ("daily@now:t", "hello ada")
    assert job.origin is not None and job.origin.schedule == "daily"
    assert [(s.name, s.paused) for s in await schedules.list()] == [("daily", True)]
    assert {tick.hour for tick in await schedules.next_runs("daily", 3)} == {0}
    with pytest.raises(InvalidMessage, match="not a cron expression"):
        await schedules.put("wrong", "greet", cron="0 25 * * *")


async def test_the_flow_of_a_job_is_told(running: Running) -> None:
    with running.ps.correlated("signup"):
        job = await running.ps.jobs.enqueue("greet", {"user": "ada"})
    await running.over(job.id)
    told = [entry.type.split(".")[2] for entry in await running.ps.flow("signup")]
    assert told == ["queued", "started", "completed"]


async def test_a_paused_queue_gives_nothing_out_until_it_is_resumed(running: Running) -> None:
    await running.ps.queues.pause("default", "repairs")
    job = await running.ps.jobs.enqueue("greet", {"user": "ada"})
    if isinstance(running.ps, TestSystem):
        await running.ps.advance(hours=1)
    assert await running.ps.jobs.get_status(job.id) == "pending"
    assert [(q.name, q.paused) for q in await running.ps.queues.list()] == [("default", True)]
    await running.ps.queues.resume("default")
    assert (await running.over(job.id)).result == "hello ada"


async def test_a_drained_queue_takes_no_new_jobs_and_a_purged_one_loses_them(
    running: Running,
) -> None:
    job = await running.ps.jobs.enqueue("greet", {"user": "ada"}, queue="q", delay=100)
    assert await running.ps.queues.resume("never-said") is None
    await running.ps.queues.drain("q")
    with pytest.raises(Refused, match="takes no new jobs"):
        await running.ps.jobs.enqueue("greet", {"user": "bob"}, queue="q")
    assert (
        await running.ps.jobs.enqueue("greet", {"user": "ada"}, id=job.id, queue="q")
    ).id == job.id
    await running.ps.queues.purge("q")
    ended = await running.over(job.id)
    assert (ended.state, ended.reason) == ("cancelled", "the queue 'q' was purged")
