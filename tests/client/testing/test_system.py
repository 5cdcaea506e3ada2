"""The system in memory: jobs of an application under a virtual clock."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from penstock.client import InvalidMessage, JobFailed, PermanentFailure, Refused, Worker
from penstock.client.testing import TestSystem

START = datetime(2026, 1, 1, tzinfo=UTC)


def a_worker() -> tuple[Worker, list[str]]:
    worker, calls = Worker("memory"), list[str]()

    @worker.register_handler("welcome")
    async def welcome(user: str) -> str:
        calls.append(user)
        return f"hello {user}"

    @worker.register_handler("flaky")
    def flaky() -> int:
        calls.append("flaky")
        if len(calls) < 2:
            raise OSError("once")
        return len(calls)

    @worker.register_handler("broken")
    async def broken() -> None:
        raise PermanentFailure("never")

    return worker, calls


async def test_a_delayed_job_runs_when_its_time_comes() -> None:
    worker, calls = a_worker()
    async with TestSystem(worker, start=START) as ps:
        job = await ps.jobs.enqueue("welcome", {"user": "ada"}, delay=3600)
        await ps.advance(minutes=59)
        assert calls == []
        await ps.advance(minutes=1)
        assert await ps.jobs.result(job.id) == "hello ada"


async def test_a_job_that_raised_is_tried_again() -> None:
    worker, _ = a_worker()
    async with TestSystem(worker) as ps:
        job = await ps.jobs.enqueue("flaky")
        await ps.run_until_idle()
        assert await ps.jobs.get_status(job.id) == "retrying"
        await ps.advance(seconds=2)
        assert await ps.jobs.result(job.id) == 2
        types = [entry.type.split(".")[2] for entry in await ps.jobs.history(job.id)]
        assert types == ["queued", "started", "retrying", "started", "completed"]


async def test_a_permanent_failure_is_told_by_the_result() -> None:
    worker, _ = a_worker()
    async with TestSystem(worker) as ps:
        job = await ps.jobs.enqueue("broken")
        await ps.run_until_idle()
        with pytest.raises(JobFailed, match="never"):
            await ps.jobs.result(job.id)


async def test_the_same_id_is_one_job_and_another_payload_is_refused() -> None:
    worker, calls = a_worker()
    async with TestSystem(worker) as ps:
        await ps.jobs.enqueue("welcome", {"user": "ada"}, id="a")
        await ps.jobs.enqueue("welcome", {"user": "ada"}, id="a")
        with pytest.raises(Refused):
            await ps.jobs.enqueue("welcome", {"user": "bob"}, id="a")
        await ps.run_until_idle()
        assert calls == ["ada"]


async def test_a_cancelled_job_does_not_run() -> None:
    worker, calls = a_worker()
    async with TestSystem(worker) as ps:
        job = await ps.jobs.enqueue("welcome", {"user": "ada"})
        await ps.jobs.cancel(job.id)
        await ps.run_until_idle()
        assert calls == []


async def test_a_payload_that_the_handler_cannot_take_is_refused() -> None:
    async with TestSystem(a_worker()[0]) as ps:
        with pytest.raises(InvalidMessage, match="user"):
            await ps.jobs.enqueue("welcome", {"user": 1})


async def test_what_is_enqueued_is_asserted_by_a_part_of_it() -> None:
    async with TestSystem(a_worker()[0]) as ps:
        await ps.jobs.enqueue("welcome", {"user": "ada"}, queue="mail", delay=3600)
        ps.assert_enqueued("welcome", payload={"user": "ada"}, queue="mail", delay=3600)
        ps.assert_not_enqueued("welcome", payload={"user": "bob"})
        with pytest.raises(AssertionError, match="There are"):
            ps.assert_enqueued("welcome", delay=1)
        with pytest.raises(AssertionError, match="is enqueued"):
            ps.assert_not_enqueued("welcome")
