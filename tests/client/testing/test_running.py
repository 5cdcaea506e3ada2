"""How a test has jobs run in memory: one, those of a queue, all, and what it is told of them."""

from __future__ import annotations

import pytest

from penstock.client import Duplicate, Handlers, JobContext, NotFound, Rate, Refused, Snooze, Worker
from penstock.client.testing import Ran, TestSystem, ran
from penstock.contracts.jobs import Backoff


def handlers() -> Handlers:
    """Some that end in every way; `many` enqueues others."""
    found = Handlers()

    @found.handler
    async def fine(ctx: JobContext) -> bool:
        return ctx.is_last_attempt

    @found.handler
    def flaky(ctx: JobContext) -> None:
        if not ctx.is_last_attempt:
            raise OSError("once more")

    @found.handler
    async def sleepy(ctx: JobContext) -> None:
        if ctx.checkpoint is None:
            await ctx.save_checkpoint("called")
            raise Snooze(60)

    @found.handler
    async def many(ctx: JobContext) -> None:
        await ctx.enqueue("fine")
        await ctx.enqueue("fine", queue="other")
        await ctx.enqueue("fine", delay=3600)

    @found.handler
    async def endless(ctx: JobContext) -> None:
        await ctx.enqueue("endless")

    return found


async def test_it_is_told_what_came_of_all_that_ran() -> None:
    async with TestSystem(handlers()) as ps:
        for name in ("fine", "flaky", "sleepy"):
            await ps.jobs.enqueue(name)
        assert await ps.run_until_idle() == Ran(completed=1, retrying=1, snoozed=1)
        assert await ps.run_until_idle() == Ran()
        assert await ps.advance(hours=1) == Ran(completed=2, retrying=1)


async def test_a_drained_queue_runs_what_is_enqueued_there_meanwhile_and_no_other() -> None:
    async with TestSystem(handlers()) as ps:
        await ps.jobs.enqueue("many", id="m")
        await ps.jobs.enqueue("fine", id="o", queue="other")
        before = ps.now
        assert await ps.drain_queue() == Ran(completed=2)
        assert ps.now == before
        waiting = {"m.2": "other", "m.3": "default", "o": "other"}
        assert {job.id: job.queue for job in ps.enqueued(state="pending")} == waiting
        assert await ps.drain_queue("default", with_delayed=True) == Ran(completed=1)
        assert (ps.now - before).total_seconds() == 3600
        assert await ps.run_until_idle() == Ran(completed=2)


async def test_a_queue_is_drained_of_retries_too_and_not_of_what_nobody_can_do() -> None:
    async with TestSystem(handlers()) as ps:
        for name in ("flaky", "sleepy", "nobody"):
            await ps.jobs.enqueue(name)
        await ps.jobs.enqueue("nobody", delay=60)
        all_ran = Ran(completed=2, retrying=2, snoozed=1)
        assert await ps.drain_queue(with_delayed=True) == all_ran


async def test_a_queue_is_drained_of_what_a_rate_lets_through_later() -> None:
    async with TestSystem(handlers()) as ps:
        before = ps.now
        for _ in range(3):
            await ps.jobs.enqueue("fine", rate=Rate(key="k", at_most=1, per=60))
        assert await ps.drain_queue() == Ran(completed=1)
        assert await ps.drain_queue(with_delayed=True) == Ran(completed=2)
        assert (ps.now - before).total_seconds() == 120


async def test_nothing_is_run_of_a_paused_queue_nor_of_one_that_is_not_the_workers() -> None:
    worker = Worker("memory", queues=["mail", "media"])
    worker.include(handlers())
    async with TestSystem(worker) as ps:
        await ps.jobs.enqueue("fine", queue="mail")
        await ps.jobs.enqueue("fine", queue="mail", delay=60)
        await ps.queues.pause("mail")
        assert await ps.drain_queue("mail", with_delayed=True) == Ran()
        await ps.queues.resume("mail")
        assert await ps.drain_queue("mail", with_delayed=True) == Ran(completed=2)
        with pytest.raises(ValueError, match="queue 'default'; it has 'mail', 'media'"):
            await ps.drain_queue()


async def test_one_job_is_run_whatever_it_waits_for() -> None:
    async with TestSystem(handlers()) as ps:
        for id in ("a", "b"):
            await ps.jobs.enqueue("fine", id=id, delay=3600, limit="k")
        assert (await ps.run_job("b")).state == "completed"
        assert await ps.jobs.get_status("a") == "pending"
        with pytest.raises(Refused, match="'b' is completed"):
            await ps.run_job("b")
        await ps.jobs.enqueue("nobody", id="n")
        for id in ("never", "n"):
            with pytest.raises(NotFound):
                await ps.run_job(id)
        assert await ps.advance(hours=1) == Ran(completed=1)


async def test_what_a_handler_raises_is_raised_to_the_test_that_wants_it() -> None:
    async with TestSystem(handlers()) as ps:
        job = await ps.jobs.enqueue("flaky", max_attempts=2, backoff=Backoff(initial=0))
        with pytest.raises(OSError, match="once more"):
            await ps.run_until_idle(propagate=True)
        assert await ps.jobs.get_status(job.id) == "retrying"
        assert await ps.run_until_idle(propagate=True) == Ran(completed=1)
        await ps.jobs.enqueue("flaky", id="f", delay=60)
        with pytest.raises(OSError, match="once more"):
            await ps.drain_queue(with_delayed=True, propagate=True)
        with pytest.raises(OSError, match="once more"):
            await ps.run_job("f", propagate=True)
        await ps.jobs.enqueue("flaky", delay=60)
        with pytest.raises(OSError, match="once more"):
            await ps.advance(minutes=1, propagate=True)


async def test_a_job_that_is_performed_can_have_its_options() -> None:
    async with TestSystem(handlers()) as ps:
        assert await ps.perform("fine") is False
        assert await ps.perform("fine", max_attempts=1) is True
        await ps.jobs.enqueue("fine", unique_key="k")
        with pytest.raises(Duplicate):
            await ps.perform("fine", unique_key="k")
        assert await ps.perform("fine", id="own") is False
        assert len(ps.enqueued()) == 1


async def test_what_has_no_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ran, "MOST", 50)
    async with TestSystem(handlers()) as ps:
        await ps.jobs.enqueue("endless")
        with pytest.raises(RuntimeError, match=r"50 attempts ran at one virtual time.*'endless'"):
            await ps.run_until_idle()


async def test_a_job_that_nobody_can_do_fails_after_a_while_if_it_is_to() -> None:
    async with TestSystem(handlers()) as ps:
        await ps.jobs.enqueue("nobody", id="fails", if_unhandled="fail", delay=30)
        await ps.jobs.enqueue("nobody", id="waits")
        await ps.advance(seconds=89)
        assert await ps.jobs.get_status("fails") == "pending"
        await ps.advance(seconds=1)
        job = await ps.jobs.get("fails")
        assert (job.state, job.cause) == ("failed", "unhandled")
        assert await ps.jobs.get_status("waits") == "pending"
