"""What becomes of a job whose handler raises or takes too long, from the handler to the history."""

from __future__ import annotations

import asyncio
import time

import pytest

from penstock.client import (
    Backoff,
    Discard,
    Penstock,
    RetryPolicy,
    Snooze,
    dead,
    discard,
    retry,
    snooze,
)
from penstock.contracts.errors import JobFailed
from penstock.contracts.job_state import JobState
from support.workers import NewWorker, Serve, event_names

SOON = Backoff(initial=0.0, maximum=0.0)


async def end_of(ps: Penstock, id: str) -> JobState:
    async with asyncio.timeout(60):
        [*_, last] = [state async for state in ps.jobs.watch(id)]
    return last


async def test_each_error_is_treated_by_its_class_and_kept(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker()
    policy = RetryPolicy(
        {ValueError: dead(), LookupError: retry(SOON), KeyError: discard(), OSError: snooze(0.05)},
        max_attempts=2,
    )
    snoozed: list[str] = []

    @worker.register_handler("fails", retry=policy)
    async def fails(how: str) -> str:
        if how == "busy" and len(snoozed) < 4:
            snoozed.append(how)
            raise OSError("busy")
        if how != "busy":
            raise {"bad": ValueError, "index": IndexError, "gone": KeyError}[how](how)
        return "done"

    await serve(worker)
    jobs = {how: await ps.jobs.enqueue("fails", {"how": how}) for how in ("bad", "index", "gone")}
    bad, index, gone = [await end_of(ps, job.id) for job in jobs.values()]
    assert (bad.state, bad.attempt, bad.cause) == ("failed", 1, "permanent")
    assert (index.state, index.attempt, index.cause) == ("failed", 2, "attempts")
    assert [error.type for error in index.errors] == ["IndexError", "IndexError"]
    assert all("in fails" in error.traceback for error in index.errors)
    assert (gone.state, gone.error and gone.error.type) == ("cancelled", "KeyError")
    busy = await ps.jobs.enqueue("fails", {"how": "busy"}, max_attempts=1)
    assert await ps.jobs.result(busy.id, timeout=60) == "done"
    assert (await ps.jobs.get(busy.id)).attempt == 1
    assert (await event_names(ps, busy.id)).count("snoozed") == 4


async def test_a_handler_can_snooze_and_discard_by_itself(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker, calls = new_worker(), []

    @worker.handler
    async def later() -> int:
        calls.append(1)
        if len(calls) < 3:
            raise Snooze(0.05)
        return len(calls)

    @worker.handler
    def unwanted() -> None:
        raise Discard("nobody wants it")

    await serve(worker)
    assert await ps.jobs.result((await ps.jobs.enqueue("later", max_attempts=1)).id) == 3
    last = await end_of(ps, (await ps.jobs.enqueue("unwanted")).id)
    assert (last.state, last.reason) == ("cancelled", "nobody wants it")


async def test_a_payload_that_does_not_fit_fails_at_once_with_the_path(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker()

    @worker.handler
    async def typed(size: int) -> None:
        raise AssertionError("never called")

    job = await ps.jobs.enqueue("typed", {"size": "big"})  # which no worker has told about yet
    await serve(worker)
    last = await end_of(ps, job.id)
    assert (last.state, last.cause, last.attempt) == ("failed", "payload", 1)
    assert last.error
    assert "$.payload.size" in last.error.message


@pytest.mark.parametrize("of", ["handler", "job"])
async def test_an_attempt_that_takes_too_long_is_stopped_and_tried_again(
    ps: Penstock, new_worker: NewWorker, serve: Serve, of: str
) -> None:
    worker, cancelled = new_worker(), []

    @worker.register_handler("slow", timeout=0.1 if of == "handler" else None)
    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    await serve(worker)
    timeout = 0.1 if of == "job" else None
    job = await ps.jobs.enqueue("slow", max_attempts=2, backoff=SOON, timeout=timeout)
    last = await end_of(ps, job.id)
    assert (last.state, last.attempt, last.cause) == ("failed", 2, "attempts")
    assert [error.type for error in last.errors] == ["TimedOut", "TimedOut"]
    assert len(cancelled) == 2


async def test_a_job_whose_time_is_over_has_no_other_attempt(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker(stop_grace=0.2)

    @worker.register_handler("endless")
    def endless() -> None:
        time.sleep(3)

    await serve(worker)
    last = await end_of(ps, (await ps.jobs.enqueue("endless", total_timeout=0.3)).id)
    assert (last.state, last.attempt, last.cause) == ("failed", 1, "timeout")


async def test_a_job_that_waits_for_longer_than_it_may_fails_without_a_worker(
    ps: Penstock,
) -> None:
    now = await ps.jobs.enqueue("nobody", total_timeout=0.3)
    later = await ps.jobs.enqueue("nobody", delay=3600, total_timeout=0.3)
    for job in (now, later):
        last = await end_of(ps, job.id)
        assert (last.state, last.cause, last.attempt) == ("failed", "timeout", 0)
    with pytest.raises(JobFailed, match="TimedOut"):
        await ps.jobs.result(now.id)
