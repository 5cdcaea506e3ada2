"""A view that is folded anew while it answers, with progress as the example."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from penstock.client import Penstock
from penstock.contracts.answers import ById
from penstock.contracts.control import Release, Report, StillHeld
from penstock.contracts.envelope import encode
from penstock.contracts.errors import Refused, Unavailable, from_problem
from penstock.contracts.progress import ListProgress, ProgressState
from penstock.contracts.views import Rebuild, Rebuilt
from penstock.infra.control import ask_all
from penstock.infra.host import Host
from penstock.infra.telemetry import HELD
from penstock.infra.testing import running_system
from penstock.progress.service import build
from support.filling import fill, happened

EVENTS = 8_000


@pytest.fixture
async def system(nats_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[Host]:
    async with running_system(nats_url, prefix, tmp_path, {"progress": build}) as host:
        yield host


@pytest.fixture
async def ps(system: Host, nats_url: str, prefix: str) -> AsyncIterator[Penstock]:
    async with Penstock(nats_url, prefix=prefix, timeout=60) as client:
        yield client


@pytest.fixture
async def filled(ps: Penstock, system: Host) -> Host:
    """The system with many events in its view."""
    await fill(ps.session.bus, EVENTS)
    await system.services[0].projector.reached(EVENTS, 30)
    return system


async def reports(ps: Penstock) -> list[Report]:
    return [r async for r in ask_all(ps.session.bus, "progress", "rebuild", Rebuild())]


async def rebuilt(ps: Penstock) -> Rebuilt:
    [end] = [r for r in await reports(ps) if r.ended]
    if end.problem:
        raise from_problem(end.problem)
    return msgspec.json.decode(end.data, type=Rebuilt)


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "views").glob("*.sqlite"))


async def test_the_view_goes_over_to_a_new_file_with_every_event_in_it(
    filled: Host, ps: Penstock, tmp_path: Path
) -> None:
    before = await ps.progress.list(limit=1000)
    assert files(tmp_path) == ["progress.1.sqlite"]
    found = await rebuilt(ps)
    assert (found.events, found.held, found.sequence) == (EVENTS, 0, EVENTS)
    assert files(tmp_path) == ["progress.2.sqlite"]
    assert await ps.progress.list(limit=1000) == before
    await ps.progress.update("p0", 42)
    assert (await ps.progress.get("p0")).percent == 42


async def test_whoever_asks_during_a_rebuild_is_answered_and_never_from_before(
    filled: Host, ps: Penstock
) -> None:
    rebuilding = asyncio.create_task(rebuilt(ps))

    async def ask() -> list[int]:
        sequences = []
        while not rebuilding.done():
            _, answer = await ps.session.ask("progress", "list", ListProgress(), list[object])
            sequences.append(answer.sequence)
        return sequences

    async def change() -> int:
        count = 0
        while not rebuilding.done():
            await ps.progress.create(f"new-{count}")
            count += 1
        return count

    one, other, created = await asyncio.gather(ask(), ask(), change())
    found = rebuilding.result()
    for sequences in (one, other):
        assert len(sequences) > 1
        assert sequences == sorted(sequences)
    assert found.events > EVENTS  # with those that came meanwhile
    for number in range(created):
        assert (await ps.progress.get(f"new-{number}")).id == f"new-{number}"


async def test_a_long_poll_and_a_waiter_for_a_sequence_outlive_the_change(
    filled: Host, ps: Penstock
) -> None:
    service = filled.services[0]
    _, now = await ps.session.ask("progress", "get", ById(id="p1"), ProgressState)
    question = ById(id="p1", after=now.revision, wait=20)
    news = asyncio.create_task(ps.session.ask("progress", "get", question, ProgressState))
    reached = asyncio.create_task(service.projector.reached(EVENTS + 1, 60))
    await rebuilt(ps)
    assert not news.done()
    await ps.progress.update("p1", 77)
    state, _ = await news
    await reached
    assert state.percent == 77


async def test_every_listener_hears_every_event_once_and_in_order(
    filled: Host, ps: Penstock
) -> None:
    heard: list[int] = []
    filled.services[0].projector.listen(lambda folded: heard.extend(f.sequence for f in folded))
    rebuilding = asyncio.create_task(rebuilt(ps))
    while not rebuilding.done():
        await ps.progress.update("p2", 1)
    await ps.progress.update("p2", 2)
    await filled.services[0].projector.reach_end()
    assert heard == list(range(EVENTS + 1, heard[-1] + 1))


async def test_the_new_view_is_the_one_that_is_opened_at_the_next_start(
    nats_url: str, prefix: str, tmp_path: Path
) -> None:
    for turn in (1, 2, 3):
        async with (
            running_system(nats_url, prefix, tmp_path, {"progress": build}) as host,
            Penstock(nats_url, prefix=prefix) as ps,
        ):
            await ps.progress.create(f"p{turn}")
            await host.services[0].projector.reached(turn, 60)
            await rebuilt(ps)
            assert files(tmp_path) == [f"progress.{turn + 1}.sqlite"]
            assert host.services[0].model.checkpoint == turn
            assert len(await ps.progress.list()) == turn


async def test_two_at_a_time_are_refused_and_the_first_goes_on(filled: Host, ps: Penstock) -> None:
    both = await asyncio.gather(rebuilt(ps), rebuilt(ps), return_exceptions=True)
    [refused] = [one for one in both if isinstance(one, Refused)]
    assert "already" in str(refused)
    assert [one.events for one in both if isinstance(one, Rebuilt)] == [EVENTS]


async def test_every_instance_rebuilds_the_view_of_its_own(
    filled: Host, ps: Penstock, nats_url: str, prefix: str, tmp_path: Path
) -> None:
    async with running_system(nats_url, prefix, tmp_path / "2", {"progress": build}):
        ends = [r for r in await reports(ps) if r.ended]
        assert len({r.instance for r in ends}) == len(ends) == 2
        assert all(msgspec.json.decode(r.data, type=Rebuilt).events == EVENTS for r in ends)
        assert files(tmp_path) == files(tmp_path / "2") == ["progress.2.sqlite"]


async def test_its_progress_is_told_in_events(filled: Host, ps: Penstock) -> None:
    found = await reports(ps)
    assert (found[-1].done, found[-1].total) == (EVENTS, EVENTS)
    assert all(r.done <= r.total for r in found)


async def test_a_service_that_stops_leaves_the_view_as_it_was(
    nats_url: str, prefix: str, tmp_path: Path
) -> None:
    async with (
        running_system(nats_url, prefix, tmp_path, {"progress": build}) as host,
        Penstock(nats_url, prefix=prefix) as ps,
    ):
        await fill(ps.session.bus, EVENTS)
        await host.services[0].projector.reached(EVENTS, 30)
        rebuilding = asyncio.create_task(reports(ps))
        async with asyncio.timeout(60):
            while len(files(tmp_path)) < 2:
                await asyncio.sleep(0.002)
        rebuilding.cancel()
        await asyncio.gather(rebuilding, return_exceptions=True)
    assert files(tmp_path) == ["progress.1.sqlite"]


async def test_events_removed_at_the_end_of_the_log_do_not_hold_it_up(
    filled: Host, ps: Penstock
) -> None:
    bus, log = ps.session.bus, filled.services[0].log
    last = await ps.progress.create("last")
    await filled.services[0].projector.reached(EVENTS + 1, 60)
    await bus.api(f"STREAM.PURGE.{log.stream}", {"filter": bus.subjects.event("progress", last.id)})
    found = await rebuilt(ps)
    assert (found.events, found.sequence) == (EVENTS, EVENTS + 1)
    assert filled.services[0].model.checkpoint == EVENTS + 1


async def test_what_is_held_back_stays_held_and_can_still_be_released(
    filled: Host, ps: Penstock
) -> None:
    bus, service = ps.session.bus, filled.services[0]
    at = (await bus.publish_acked(bus.subjects.event("progress", "p1"), b"{}")).seq
    await bus.publish_acked(bus.subjects.event("progress", "p1"), encode(happened("p1", 9)))
    await service.projector.reached(at + 1, 60)
    before = await ps.session.ask("progress", "get", ById(id="p1"), ProgressState)
    found = await rebuilt(ps)
    assert (found.events, found.held, found.sequence) == (EVENTS, 2, at + 1)
    assert await ps.session.ask("progress", "get", ById(id="p1"), ProgressState) == before
    assert before[1].held == at
    assert HELD.labels("progress")._value.get() == 1
    [end] = [r async for r in ask_all(bus, "progress", "release", Release(ids=["p1"])) if r.ended]
    [still] = msgspec.json.decode(end.data, type=list[StillHeld])
    assert (still.id, still.sequence) == ("p1", at)
    info = await bus.api(f"STREAM.INFO.{bus.subjects.stream('dead')}")
    assert info["state"]["messages"] == 1  # of the first time


async def test_nobody_there_is_said(nats_url: str, prefix: str) -> None:
    async with Penstock(nats_url, prefix=prefix) as ps:
        with pytest.raises(Unavailable, match="No instance of progress answers"):
            await reports(ps)
