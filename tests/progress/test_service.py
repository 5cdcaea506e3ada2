"""Progress as an application sees it: the SDK and HTTP over a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from penstock.client import Penstock
from penstock.contracts.errors import InvalidMessage, NotFound, Refused
from penstock.contracts.progress import CreateProgress
from penstock.infra.host import Host
from penstock.infra.testing import running_system
from penstock.progress.service import build


@pytest.fixture
async def system(nats_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[Host]:
    async with running_system(nats_url, prefix, tmp_path, {"progress": build}) as host:
        yield host


@pytest.fixture
async def ps(system: Host, nats_url: str, prefix: str) -> AsyncIterator[Penstock]:
    async with Penstock(nats_url, prefix=prefix, actor="tester", timeout=60) as client:
        yield client


async def test_a_progress_goes_through_its_stages_to_its_end(ps: Penstock) -> None:
    await ps.progress.create("file/1", stages=["upload", "index"], metadata={"size": 3})
    await ps.progress.update("file/1", 40.0, stage="upload")
    state = await ps.progress.advance_stage("file/1")
    assert (state.stage, state.percent, state.state) == ("index", 40.0, "processing")
    await ps.progress.complete("file/1")
    state = await ps.progress.get("file/1")
    assert (state.state, state.percent, state.metadata) == ("completed", 100.0, {"size": 3})
    assert [stage.state for stage in state.stages] == ["completed", "completed"]


async def test_a_watch_shows_the_present_and_then_every_change_to_the_end(ps: Penstock) -> None:
    async def watched() -> list[float]:
        return [state.percent async for state in ps.progress.watch("w")]

    watching = asyncio.create_task(watched())
    await ps.progress.create("w")
    await ps.progress.update("w", 50)
    await ps.progress.complete("w")
    seen = await asyncio.wait_for(watching, 60)
    assert seen[-1] == 100.0
    assert seen == sorted(set(seen))


async def test_the_same_command_id_has_one_effect_and_one_answer(ps: Penstock) -> None:
    await ps.progress.create("i")
    first = await ps.progress.update("i", 10, command_id="c-1")
    await ps.progress.update("i", 20)
    again = await ps.progress.update("i", 10, command_id="c-1")
    assert again == first
    assert (await ps.progress.get("i")).percent == 20
    assert len(await ps.progress.history("i")) == 3


async def test_one_command_id_for_two_aggregates_is_two_commands(ps: Penstock) -> None:
    for id in ("one", "two"):
        await ps.session.post(CreateProgress(), id=id, command_id="shared")
    async with asyncio.timeout(60):
        while len(await ps.progress.list()) < 2:
            await asyncio.sleep(0.01)


async def test_what_is_not_possible_is_refused_with_its_reason(ps: Penstock) -> None:
    with pytest.raises(NotFound, match="no progress 'nope'"):
        await ps.progress.update("nope", 1)
    await ps.progress.create("r", stages=["a"])
    with pytest.raises(InvalidMessage, match=r"data\.percent"):
        await ps.progress.update("r", 101)
    with pytest.raises(InvalidMessage, match="no stage 'b'; it has a"):
        await ps.progress.update("r", 1, stage="b")
    await ps.progress.fail("r", "boom")
    with pytest.raises(Refused, match="failed already"):
        await ps.progress.update("r", 1)


async def test_history_explains_each_event_and_the_past_can_be_read(ps: Penstock) -> None:
    with ps.correlated("flow-1"):
        await ps.progress.create("h")
        await ps.progress.update("h", 30)
    await ps.progress.complete("h")
    history = await ps.progress.history("h")
    assert [entry.version for entry in history] == [1, 2, 3]
    assert history[1].causationtype == "penstock.progress.update.v1"
    assert {entry.actor for entry in history} == {"tester"}
    then = await ps.progress.get("h", at=history[1].sequence)
    assert (then.percent, then.state) == (30, "processing")
    assert await ps.progress.get("h", at=history[1].time.isoformat()) == then
    assert [entry.id for entry in await ps.flow("flow-1")] == [e.id for e in history[:2]]


async def test_cleaning_up_takes_it_off_the_list_and_keeps_its_history(ps: Penstock) -> None:
    await ps.progress.create("a")
    await ps.progress.create("b")
    await ps.progress.cleanup("a")
    assert [state.id for state in await ps.progress.list()] == ["b"]
    assert len(await ps.progress.history("a")) == 2


async def test_http_answers_states_problems_and_readiness(ps: Penstock, system: Host) -> None:
    await ps.progress.create("x/y")
    async with aiohttp.ClientSession(system.http_url) as http:
        async with http.get("/progress/x%2Fy?min_seq=1") as response:
            body = await response.json()
            assert (response.status, body["data"]["percent"]) == (200, 0.0)
            assert int(response.headers["Penstock-Sequence"]) == body["sequence"] > 0
        async with http.get("/progress/none") as response:
            assert response.content_type == "application/problem+json"
            assert (response.status, (await response.json())["title"]) == (404, "Not found")
        command = {"id": "x/y", "data": {"percent": 7}}
        async with http.post("/commands/progress/update?wait=10", json=command) as response:
            assert (response.status, (await response.json())["data"]["percent"]) == (200, 7.0)
        async with http.post("/commands/progress/update", json=command) as response:
            assert response.status == 202
        bad = {"id": "x/y", "data": {"percent": "7"}}
        async with http.post("/commands/progress/update", json=bad) as response:
            problem = await response.json()
            assert (response.status, problem["fields"]["path"]) == (422, "$.data.percent")
        async with http.get("/health/ready") as response:
            assert response.status == 200, await response.text()
