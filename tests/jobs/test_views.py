"""What the view of jobs tells, by the SDK and over HTTP."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from penstock.client import Penstock
from penstock.contracts.errors import NotFound
from penstock.contracts.jobs import Origin
from penstock.infra.host import Host


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


async def test_jobs_are_found_by_tag_time_and_what_they_came_from(ps: Penstock) -> None:
    await ps.jobs.enqueue("a", id="j0", tags=["red", "big"])
    await ps.jobs.enqueue("a", id="j1", tags=["red"], origin=Origin(parent="j0"))
    j2 = await ps.jobs.enqueue("a", id="j2", tags=["big"], origin=Origin(schedule="nightly"))

    async def found(**filters: Any) -> list[str]:
        return [job.id for job in await ps.jobs.list(**filters)]

    assert await found(tag="red") == ["j1", "j0"]
    assert await found(tag="red", before="j1") == ["j0"]
    assert await found(tag="red", parent="j0") == ["j1"]
    assert await found(tag="red", schedule="nightly") == []
    assert await found(schedule="nightly", state="pending", name="a") == ["j2"]
    assert await found(since=j2.created) == ["j2"]
    assert await found(until=j2.created, tag="big") == ["j0"]
    with pytest.raises(NotFound, match="begin the list again"):
        await found(before="nobody")


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
