"""A view that follows its log: what it says of itself meanwhile, and that it ends when told to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.contracts.progress import ProgressState
from penstock.infra.bus import Bus
from penstock.infra.event_log import JetStreamEventLog
from penstock.infra.service import Frame
from penstock.infra.settings import Settings
from penstock.infra.streams import provision
from penstock.infra.views import pace
from penstock.infra.views.projector import Projector
from penstock.infra.views.read_model import ReadModel
from penstock.progress.domain import evolve
from penstock.progress.service import build
from penstock.progress.views import ProgressView
from support.filling import fill


@pytest.mark.parametrize("ticks", range(6))
async def test_following_ends_also_when_news_comes_at_that_moment(bus: Bus, ticks: int) -> None:
    async with JetStreamEventLog(bus, "progress").follower() as follower:

        async def follow() -> None:
            while True:
                await follower.batch()

        following = asyncio.create_task(follow())
        await asyncio.sleep(0.2)  # until it waits; there is nothing to see from outside
        follower._news.set()  # as a message does that comes in
        for _ in range(ticks):
            await asyncio.sleep(0)
        following.cancel()
        done, _ = await asyncio.wait((following,), timeout=1)
        following.cancel()
        assert done


@pytest.fixture
def projector(bus: Bus, tmp_path: Path) -> Iterator[Projector[ProgressState]]:
    model = ReadModel(tmp_path / "view.sqlite", ProgressView(), ProgressState)
    yield Projector(bus, JetStreamEventLog(bus, "progress"), model, evolve)
    model.close()


async def until_lag(projector: Projector[ProgressState], lag: int) -> None:
    async with asyncio.timeout(60):
        while projector.lag != lag:
            await asyncio.sleep(0.005)


async def test_how_far_it_is_behind_is_known_before_anything_is_folded(
    bus: Bus, projector: Projector[ProgressState]
) -> None:
    await fill(bus, 2000)
    assert projector.lag is None
    async with projector.paused() as sequence:
        assert sequence == 0
        projector.start()
        await until_lag(projector, 2000)
        assert projector.sequence == 0
    await until_lag(projector, 0)
    assert projector.sequence == 2000
    await projector.stop()


async def test_with_nothing_to_fold_it_is_known_to_be_there(
    projector: Projector[ProgressState],
) -> None:
    projector.start()
    await until_lag(projector, 0)
    await projector.stop()


async def test_a_service_is_not_ready_before_it_knows_and_says_how_far_it_is_behind(
    nats_url: str, bus: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.infra.service.BEHIND", 1000)
    await provision(bus)  # a service also looks after its consumer of commands
    await fill(bus, 2000)
    frame = Frame(bus=bus, settings=Settings(durability="os"), views=tmp_path, secret="s" * 32)
    service = build(frame)

    def problems() -> list[str]:
        return [problem for problem in service.problems() if problem.startswith("its view")]

    assert problems() == ["its view does not follow its log yet"]
    async with service.projector.paused():
        service.projector.start()
        await until_lag(service.projector, 2000)
        assert problems() == ["its view is 2000 events behind"]
    await until_lag(service.projector, 0)
    assert problems() == []
    await service.projector.stop()
    service.model.close()


async def test_a_long_catching_up_is_told_in_the_log(
    bus: Bus,
    projector: Projector[ProgressState],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("penstock.infra.views.catch_up.LONG", 1000)
    monkeypatch.setattr("penstock.infra.views.catch_up.EVERY", 0)
    caplog.set_level("INFO", "penstock.infra.views.catch_up")
    await fill(bus, 3000)
    projector.start()
    await until_lag(projector, 0)
    await projector.stop()
    first, *between, last = caplog.messages
    assert first == "progress: the view is 3,000 events behind"
    assert between and "of 3,000 events folded (" in between[0]
    assert last.startswith("progress: the view has caught up after ")


async def test_what_gathers_is_folded_before_a_question_is_answered(
    bus: Bus, projector: Projector[ProgressState], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "LONGEST", 3600.0)
    monkeypatch.setattr(pace, "PAUSE", 1e9)  # as if folding took long
    projector.start()
    await fill(bus, 1)
    await projector.reached(1, 60)
    await fill(bus, 1, begin="q")
    assert projector.follower
    async with asyncio.timeout(60):
        while projector.follower.newest < 2:
            await asyncio.sleep(0.005)
    assert projector.sequence == 1
    await projector.fold_what_came()
    assert projector.sequence == 2
    await projector.stop()
