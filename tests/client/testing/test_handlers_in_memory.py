"""Handlers in memory: called once by a test, with their context, and ended by virtual time."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from penstock.client import (
    Handlers,
    InvalidMessage,
    JobContext,
    LeaseLost,
    NotFound,
    PermanentFailure,
    RetryPolicy,
    dead,
)
from penstock.client.testing import NotInMemory, TestSystem


def slow() -> Handlers:
    """Handlers that take virtual time."""
    found = Handlers()

    @found.register_handler("limited", timeout=30)
    async def limited(ctx: JobContext, seconds: float) -> str:
        assert isinstance(ctx.ps, TestSystem)
        await ctx.ps.sleep(seconds)
        return "in time"

    @found.register_handler("once", timeout=30, retry=RetryPolicy({TimeoutError: dead()}))
    def once(ctx: JobContext) -> None:
        assert isinstance(ctx.ps, TestSystem)
        ctx.run(ctx.ps.sleep(31))

    return found


async def test_a_handler_that_takes_longer_than_its_attempt_may_is_tried_again() -> None:
    async with TestSystem(slow()) as ps:
        before = ps.now
        job = await ps.jobs.enqueue("limited", {"seconds": 31})
        await ps.run_until_idle()
        job = await ps.jobs.get(job.id)
        assert job.state == "retrying" and job.error and job.error.type == "TimedOut"
        assert (ps.now - before).total_seconds() == 30
        assert await ps.perform("limited", {"seconds": 29}) == "in time"


async def test_the_timeout_of_a_job_stands_for_that_of_its_handler() -> None:
    async with TestSystem(slow()) as ps:
        job = await ps.jobs.enqueue("limited", {"seconds": 31}, timeout=60)
        await ps.run_until_idle()
        assert await ps.jobs.result(job.id) == "in time"


async def test_a_job_whose_whole_time_is_over_is_not_tried_again() -> None:
    async with TestSystem(slow()) as ps:
        job = await ps.jobs.enqueue("limited", {"seconds": 31}, total_timeout=10)
        await ps.run_until_idle()
        job = await ps.jobs.get(job.id)
        assert (job.state, job.cause) == ("failed", "timeout")


async def test_the_policy_says_what_follows_a_timeout_of_a_sync_handler() -> None:
    async with TestSystem(slow()) as ps:
        job = await ps.jobs.enqueue("once")
        await ps.run_until_idle()
        job = await ps.jobs.get(job.id)
        assert job.state == "failed" and job.error and job.error.type == "TimedOut"


async def test_the_sleep_of_an_application_can_be_the_virtual_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handlers = Handlers()

    @handlers.register_handler("napping", timeout=30)
    async def napping(ctx: JobContext) -> str:
        ctx.log("good night")
        return await asyncio.sleep(20, "awake")

    async with TestSystem(handlers) as ps:
        monkeypatch.setattr(asyncio, "sleep", ps.sleep)
        assert await ps.perform("napping") == "awake"


async def test_a_handler_is_performed_at_once_and_raises_what_it_raises() -> None:
    handlers = Handlers()

    @handlers.handler
    async def divide(by: int) -> float:
        return 1 / by

    @handlers.handler
    async def broken() -> None:
        raise PermanentFailure("never")

    @handlers.handler
    async def odd() -> object:
        return object()

    async with TestSystem(handlers) as ps:
        assert await ps.perform("divide", {"by": 2}) == await ps.perform(divide, {"by": 2}) == 0.5
        wrong: list[tuple[str, dict[str, Any], type[Exception]]] = [
            ("divide", {"by": 0}, ZeroDivisionError),
            ("divide", {"by": "x"}, InvalidMessage),
            ("broken", {}, PermanentFailure),
            ("odd", {}, TypeError),
            ("unknown", {}, NotFound),
        ]
        for name, payload, error in wrong:
            with pytest.raises(error):
                await ps.perform(name, payload)
        ps.assert_not_enqueued(divide)
        await ps.jobs.enqueue(divide, {"by": 1})
        assert ps.assert_enqueued(divide, payload={"by": 1}).name == "divide"
        with pytest.raises(NotFound, match="is no handler"):
            ps.assert_enqueued(print)
        await ps.advance(days=1)
        assert await ps.jobs.list(state="retrying") == []


async def test_a_later_attempt_is_given_the_checkpoint_of_the_one_before() -> None:
    handlers, seen = Handlers(), list[object]()

    @handlers.handler
    def stepwise(ctx: JobContext) -> None:
        seen.append(ctx.checkpoint)
        ctx.run(ctx.save_checkpoint({"attempt": ctx.attempt}))
        if not ctx.is_last_attempt:
            raise OSError("again")

    async with TestSystem(handlers) as ps:
        await ps.jobs.enqueue("stepwise", max_attempts=2)
        await ps.advance(hours=1)
        assert seen == [None, {"attempt": 1}]


async def test_what_a_job_says_after_it_was_cancelled_is_dropped() -> None:
    handlers, heard = Handlers(), list[bool]()

    @handlers.handler
    async def undone(ctx: JobContext) -> str:
        ctx.progress(10)
        await ctx.ps.jobs.cancel(ctx.id, "changed my mind")
        heard.append(ctx.is_cancelled)
        with pytest.raises(LeaseLost):
            await ctx.save_checkpoint(1)
        return "too late"

    async with TestSystem(handlers) as ps:
        job = await ps.jobs.enqueue("undone", id="u")
        await ps.run_until_idle()
        job = await ps.jobs.get("u")
        assert (job.state, job.result, heard) == ("cancelled", None, [True])
        assert (await ps.progress.get("u")).state == "cancelled"


async def test_a_handler_that_waits_for_another_job_is_told_that_time_stands_still() -> None:
    handlers = Handlers()

    @handlers.handler
    async def waits(ctx: JobContext) -> None:
        await ctx.ps.jobs.result((await ctx.enqueue("other")).id)

    async with TestSystem(handlers) as ps:
        await ps.jobs.enqueue("waits")
        with pytest.raises(NotInMemory, match="time stands still"):
            await ps.run_until_idle()


async def test_no_thread_outlives_the_system() -> None:
    handlers = Handlers()

    @handlers.handler
    def where() -> str:
        return threading.current_thread().name

    before = set(threading.enumerate())
    async with TestSystem(handlers) as ps:
        assert "penstock-testing" in await ps.perform("where")
    assert set(threading.enumerate()) == before


async def test_the_same_seed_gives_the_same_jitter() -> None:
    handlers = Handlers()

    @handlers.handler
    async def hopeless() -> None:
        raise OSError("always")

    async def retried(seed: int) -> object:
        async with TestSystem(handlers, seed=seed) as ps:
            job = await ps.jobs.enqueue("hopeless")
            await ps.run_until_idle()
            return (await ps.jobs.get(job.id)).run_at

    assert await retried(1) == await retried(1) != await retried(2)
