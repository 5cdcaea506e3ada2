"""A job's input run again beside the old attempt, and the two compared."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from penstock.client import Penstock
from penstock.contracts.errors import Archived, JobFailed, NotFound
from penstock.contracts.job_reads import Difference
from penstock.contracts.lifecycle import ARCHIVE
from support.workers import NewWorker, Serve


async def test_a_failed_job_runs_again_with_its_input_and_is_compared(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker()

    @worker.register_handler("count")
    async def count(to: int) -> dict[str, list[int]]:
        calls.append(to)
        if len(calls) == 1:
            raise KeyError("gone")
        return {"found": [*range(to), len(calls)]}

    calls: list[int] = []
    await serve(worker)
    old = await ps.jobs.enqueue("count", {"to": 2}, tags=["x"], max_attempts=1, priority=7)
    with pytest.raises(JobFailed):
        await ps.jobs.result(old.id, timeout=60)
    new = await ps.jobs.rerun(old.id, command_id="again")
    assert await ps.jobs.result(new.id, timeout=60) == {"found": [0, 1, 2]}
    assert (new.payload, new.tags, new.priority) == ({"to": 2}, ("x",), 7)
    assert (new.origin and new.origin.rerun_of) == old.id
    assert [job.id for job in await ps.jobs.list(rerun_of=old.id)] == [new.id]
    assert (await ps.jobs.rerun(old.id, command_id="again")).id == new.id
    found = await ps.jobs.compare(old.id, new.id)
    assert (found.same, found.one.state, found.other.state) == (False, "failed", "completed")
    assert found.one.error is not None and found.one.error.type == "KeyError"
    third = await ps.jobs.rerun(new.id)
    await ps.jobs.result(third.id, timeout=60)
    found = await ps.jobs.compare(new.id, third.id)
    assert found.differences == (Difference(path="$.found[2]", one=2, other=3),)
    assert (await ps.jobs.compare(new.id, new.id)).same


async def test_a_job_in_the_archive_runs_again_too(ps: Penstock) -> None:
    await ps.jobs.enqueue("x", {"a": 1}, id="old")
    await ps.jobs.cancel("old")
    assert (await ps.jobs.get("old")).state == "cancelled"  # what is archived, the view tells
    later = datetime.now(UTC) + timedelta(hours=1)
    await ps.session.command(ARCHIVE["jobs"](before={"cancelled": later}), id="archive-now")
    with pytest.raises(Archived):
        async with asyncio.timeout(60):
            while (await ps.jobs.get("old")).id == "old":
                await asyncio.sleep(0.02)
    new = await ps.jobs.rerun("old")
    assert (new.state, new.payload) == ("pending", {"a": 1})
    assert (await ps.jobs.compare("old", new.id)).one.state == "cancelled"
    with pytest.raises(NotFound):
        await ps.jobs.rerun("nobody")
