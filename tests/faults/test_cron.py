"""kill -9 of the jobs service at random while schedules tick: each tick has its one job."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from penstock.client import Penstock
from penstock.contracts.dead import Letters
from penstock.contracts.envelope import unwrap
from penstock.contracts.jobs import JobQueued
from penstock.contracts.schedules import ScheduleTicked, tick_id
from penstock.infra.dead_letters.office import DeadLetterOffice
from penstock.infra.event_log import JetStreamEventLog
from support.instances import serving

SCHEDULES = [f"s{n}" for n in range(10)]  # each ticks every second
UNTIL_KILLED = 1.5  # seconds that all instances run, at most
CAUGHT_UP = 30.0  # seconds in which every tick has to have its job, after the last kill
SECOND = timedelta(seconds=1)

pytestmark = pytest.mark.timeout(0)  # each wait has its own bound


class Instances:
    """Processes of the jobs service, each killed and started again at will."""

    def __init__(self, url: str, prefix: str, directory: Path) -> None:
        self._where = url, prefix, directory
        self._running: dict[str, ExitStack] = {}
        self.kills = 0

    async def start(self, name: str) -> None:
        url, prefix, directory = self._where
        self._running[name] = ExitStack()
        begun = serving(url, prefix, directory / name, "jobs")
        await asyncio.to_thread(self._running[name].enter_context, begun)

    async def kill(self, name: str) -> None:
        self.kills += 1
        await asyncio.to_thread(self._running.pop(name).close)

    async def end(self) -> None:
        for name in list(self._running):
            await self.kill(name)


async def killed_at_random(instances: Instances, rounds: int, chance: random.Random) -> None:
    for _ in range(rounds):
        await asyncio.sleep(chance.uniform(0, UNTIL_KILLED))
        victims = chance.choice([["east"], ["west"], ["east", "west"]])
        await asyncio.gather(*map(instances.kill, victims))
        await asyncio.gather(*map(instances.start, victims))


async def ticked_until(ps: Penstock, moment: datetime) -> None:
    """Every schedule has come to `moment`, and then is paused."""
    async with asyncio.timeout(CAUGHT_UP):
        for name in SCHEDULES:
            async for state in ps.schedules.watch(name):
                if state.after >= moment:
                    break
    for name in SCHEDULES:
        await ps.schedules.pause(name)


async def decided_and_queued(ps: Penstock) -> tuple[Counter[str], Counter[str]]:
    """The jobs that ticks were to have, and those that there are, with how often each."""
    decided, queued = Counter[str](), Counter[str]()
    async for record in JetStreamEventLog(ps.session.bus, "jobs").read():
        data = unwrap(record.event)
        if isinstance(data, ScheduleTicked):
            assert data.skipped == 0
            name = record.event.subject.removeprefix("schedule:")
            decided.update(tick_id(name, tick) for tick in data.run)
        elif isinstance(data, JobQueued):
            queued[record.event.subject] += 1
    return decided, queued


async def test_every_tick_has_one_job_however_often_the_schedulers_are_killed(
    nats_url: str, prefix: str, tmp_path: Path, rounds: int, seed: int
) -> None:
    print(f"seed {seed} (repeat with --seed {seed}), {rounds} rounds")
    instances = Instances(nats_url, prefix, tmp_path)
    await asyncio.gather(*map(instances.start, ("east", "west")))
    try:
        async with Penstock(nats_url, prefix=prefix, timeout=30) as ps:
            put = [
                await ps.schedules.put(name, "beat", every=1, missed="all", most=1000)
                for name in SCHEDULES
            ]
            await killed_at_random(instances, rounds, random.Random(seed))
            stopped, now = time.monotonic(), datetime.now(UTC)
            await ticked_until(ps, now)
            took = time.monotonic() - stopped
            decided, queued = await decided_and_queued(ps)
            ends = [(await ps.schedules.get(name)).after for name in SCHEDULES]
            letters = [
                one async for one in DeadLetterOffice(ps.session.bus).newest_first(Letters())
            ]
    finally:
        await instances.end()
    expected = {
        tick_id(state.name, state.next + n * SECOND)
        for state, end in zip(put, ends, strict=True)
        if state.next
        for n in range((end - state.next) // SECOND + 1)
    }
    print(f"{len(expected)} ticks, {instances.kills} kills, caught up within {took:.1f} s")
    assert len(expected) >= len(SCHEDULES) * rounds / 2
    assert not letters
    assert set(queued) == expected, "each tick has a job, and nothing else has"
    assert set(queued.values()) == {1}, "each has one"
    assert decided == queued, "each was decided once"
