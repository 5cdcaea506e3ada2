"""Folding on a real server: whole, in step, resumed; and it ends when told to, however timed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from penstock.contracts.envelope import Envelope, wrap
from penstock.contracts.errors import Timeout
from penstock.contracts.progress import ProgressCreated, ProgressState
from penstock.infra.bus import Bus
from penstock.infra.event_log import JetStreamEventLog
from penstock.infra.projector import REST, Projector
from penstock.infra.read_model import ReadModel
from penstock.progress.domain import evolve
from penstock.progress.views import ProgressView
from support.events import event

Projecting = tuple[Projector[ProgressState], ReadModel[ProgressState]]


@asynccontextmanager
async def projecting(bus: Bus, path: Path) -> AsyncIterator[Projecting]:
    """The view of progress, folded from the stream of `bus`, in the file `path`."""
    model = ReadModel(path, ProgressView(), ProgressState)
    projector = Projector(bus, JetStreamEventLog(bus, "progress"), model, evolve)
    projector.start()
    yield projector, model
    await projector.stop()
    model.close()


async def put(bus: Bus, id: str, versions: range) -> int:
    """Append a creation and then updates to one aggregate; the sequence of the last."""
    log = JetStreamEventLog(bus, "progress", durability="os")
    last = (await log.load(id)).sequence
    for version in versions:
        record = creation(id) if version == 1 else event(id, version, by=f"{id}-{version}")
        last = (await log.append([record], expected=last)).sequence
    return last


def creation(id: str) -> Envelope:
    first = event(id, 1)
    return wrap(
        ProgressCreated(),
        id=first.id,
        subject=id,
        time=first.time,
        correlationid=first.correlationid,
        version=1,
    )


async def test_the_view_follows_the_log_and_tells_who_waits(bus: Bus, tmp_path: Path) -> None:
    async with projecting(bus, tmp_path / "view") as (projector, model):
        for last in (1, 5, 9):
            sequence = await put(bus, "a", range(max(1, last - 3), last + 1))
            await projector.reached(sequence, 10)
            reflects, found = await model.read(model.aggregate, "a")
            assert found is not None
            assert (reflects, found[0]) == (sequence, sequence)
            assert found[1].percent == (last if last > 1 else 0)


async def test_the_view_resumes_behind_what_it_has_folded(bus: Bus, tmp_path: Path) -> None:
    sequence = await put(bus, "a", range(1, 4))
    async with projecting(bus, tmp_path / "view") as (projector, _):
        await projector.reached(sequence, 10)
    sequence = await put(bus, "a", range(4, 7))
    async with projecting(bus, tmp_path / "view") as (projector, model):
        assert projector.sequence == 3
        folded: list[int] = []
        projector.listen(lambda news: folded.extend(f.sequence for f in news))
        await projector.reached(sequence, 10)
        assert folded == [4, 5, 6]
        assert model.checkpoint == 6


async def test_waiting_for_what_does_not_come_ends_in_time(bus: Bus, tmp_path: Path) -> None:
    async with projecting(bus, tmp_path / "view") as (projector, _):
        with pytest.raises(Timeout, match="stands at 0 and did not reach 5"):
            await projector.reached(5, 0.1)


async def test_events_that_come_one_by_one_are_folded_several_at_a_time(
    bus: Bus, tmp_path: Path
) -> None:
    async with projecting(bus, tmp_path / "view") as (projector, _):
        commits: list[int] = []
        projector.listen(lambda news: commits.append(len(news)))
        started = asyncio.get_running_loop().time()
        sequence = await put(bus, "a", range(1, 201))
        await projector.reached(sequence, 10)
        took = asyncio.get_running_loop().time() - started
        assert sum(commits) == 200
        # Each but the last, for which somebody waits, comes after a rest.
        assert len(commits) <= took / REST + 3


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
