"""kill -9 of workers, of the jobs service and of nats-server while jobs are enqueued and done.

What is promised is in `support.faults.job_checker`. By hand, with 100,000 jobs:
`pytest -s tests/faults/test_jobs_killed.py --jobs 100000`.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.client import Penstock
from penstock.contracts.errors import Unavailable
from penstock.contracts.jobs import EnqueueJob
from penstock.contracts.views import Verified, Verify
from penstock.infra.control import ask_all
from penstock.infra.event_log import JetStreamEventLog
from support.faults.checker import Violation
from support.faults.job_checker import check, doubly_completed, lost, slowest_takeover
from support.faults.job_clients import Clients
from support.faults.job_plan import Asked, jobs
from support.faults.job_stories import Stories, count, restarts
from support.faults.job_system import NATS, SERVICES, WORKERS, JobSystem, running

EVERY = 1.0  # seconds between two kills
MOST = 3000  # jobs a second, at most
SHORT = 6.0  # seconds that their enqueueing takes at least
LEASE, SHORT_LEASE = 5.0, 1.0  # seconds: as by default, and where there are few jobs
FEW = 10_000
SETTLED = 120.0  # seconds that the rest may take once nothing is killed any more
BUSY = 2.0  # seconds that a busy machine may take longer

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="kills process groups"),
    pytest.mark.timeout(0),  # each wait has its own bound
]


@pytest.fixture
def number(request: pytest.FixtureRequest) -> int:
    """How many jobs: few in CI, `--jobs` by hand."""
    return int(request.config.getoption("--jobs"))


@pytest.fixture
def lease(number: int) -> float:
    """Seconds after which a killed worker loses its jobs."""
    return SHORT_LEASE if number < FEW else LEASE


class Trial:
    """A system, its clients, what they asked for and what the log tells until now."""

    def __init__(self, system: JobSystem, ps: Penstock, asked: list[Asked], seed: int) -> None:
        self.asked = asked
        self.stories = Stories()
        self.clients = Clients(ps, asked, min(MOST, len(asked) / SHORT))
        self.settled = 0.0  # seconds from the last kill to the last end
        self._stood = (-1, -1)  # how far it was at the last kill
        self._system = system
        self._bus = ps.session.bus
        self._log = JetStreamEventLog(self._bus, "jobs")
        self._chance = random.Random(seed)

    async def run(self) -> None:
        """Enqueue and kill; return when every job has ended, or had its time."""
        async with asyncio.TaskGroup() as tasks:
            enqueueing = tasks.create_task(self.clients.run())
            while not (enqueueing.done() and self._mostly_done()):
                await asyncio.sleep(EVERY)
                self._system.check()
                await self.read()
                if self._moved():
                    await self._kill()
        await self._wait_for_the_rest()

    def _moved(self) -> bool:
        """Whether clients were answered since the last kill, or all are and workers went on.

        On a busy machine programs may take longer to start than it takes to kill them all.
        """
        known, events = self.clients.known, self.stories.events
        moved = self._stood < ((known, events) if known == len(self.asked) else (known, 0))
        self._stood = (known, events)
        return moved

    async def read(self) -> None:
        """Read what the log has more, if the server is there."""
        try:
            async for record in self._log.read(after=self.stories.sequence):
                self.stories.add(record)
        except Unavailable:
            return

    async def read_again(self) -> None:
        """Read the log from its start."""
        self.stories = Stories()
        async for record in self._log.read():
            self.stories.add(record)

    async def _kill(self) -> None:
        await self._system.kill(self._chance.choice(self._system.victims))
        # At a third and at two thirds of the jobs.
        if self.clients.known * 3 > len(self.asked) * (self._system.killed([NATS]) + 1):
            await self._system.kill(NATS)

    def _mostly_done(self) -> bool:
        """Few are left: the last ones would come to no end while workers are killed."""
        return len(self.stories.ended) >= 0.95 * self.clients.known

    async def _wait_for_the_rest(self) -> None:
        began = time.monotonic()
        while len(self.stories.ended) < self.clients.known:
            if time.monotonic() > began + SETTLED:
                return
            await asyncio.sleep(0.1)
            await self.read()
        self.settled = time.monotonic() - began

    async def checked(self) -> list[Violation]:
        """What is wrong, in the log, beside it and in the views."""
        streams = ("work", "sched", "dead")
        found = [violation for stream in streams for violation in await self._left(stream)]
        await self.read_again()
        return [*found, *check(self.asked, self.stories), *await self._views()]

    async def _left(self, stream: str) -> list[Violation]:
        name = self._bus.subjects.stream(stream)
        deadline = time.monotonic() + SETTLED / 2
        while left := (await self._bus.api(f"STREAM.INFO.{name}"))["state"]["messages"]:
            if time.monotonic() > deadline:
                return [Violation("left", "jobs", "", f"{name} holds {left} messages")]
            await asyncio.sleep(0.1)
        return []

    async def _views(self) -> list[Violation]:
        deadline = time.monotonic() + SETTLED / 2
        while len(found := await self._verified()) < self._system.instances:
            assert time.monotonic() < deadline, "not every instance of jobs answers"
            await asyncio.sleep(0.2)
        return [
            Violation("differs", "jobs", name, f"{one.count} rows: {one.differences[:3]}")
            for name, one in found.items()
            if one.count or one.held
        ]

    async def _verified(self) -> dict[str, Verified]:
        found: dict[str, Verified] = {}
        try:
            async for report in ask_all(self._bus, "jobs", "verify", Verify()):
                if report.ended and not report.problem:
                    found[report.instance] = msgspec.json.decode(report.data, type=Verified)
        except Unavailable:
            return {}
        return found

    def table(self, found: list[Violation], seconds: float) -> str:
        """What happened, in figures."""
        system, stories = self._system, self.stories.of.values()
        starts = sum(max(0, count(story, "started") - 1) for story in stories)
        alone, with_server = slowest_takeover(self.stories, system.kills, system.kills[NATS])
        rows: dict[str, Any] = {
            "jobs": len(self.asked),
            "kills of workers": system.killed(WORKERS),
            "kills of the jobs service": system.killed(SERVICES),
            "kills of nats-server": system.killed([NATS]),
            "programs ended by themselves": system.given_up,
            "commands sent again": self.clients.resent,
            "completed": sum(count(story, "completed") > 0 for story in stories),
            "cancelled": sum(count(story, "cancelled") > 0 for story in stories),
            "lost": lost(found),
            "doubly completed": doubly_completed(self.stories),
            "starts beyond the first": starts,
            "  of them not asked for by a retry": sum(map(restarts, stories)),
            "stored events per job": f"{self.stories.events / max(1, len(self.asked)):.2f}",
            "seconds": f"{seconds:.1f}",
            "slowest answer to a client (s)": f"{self.clients.slowest:.1f}",
            "slowest takeover from a killed worker (s)": f"{alone:.1f}",
            "  where the server was killed, too": f"{with_server:.1f}",
            "last end after the last kill (s)": f"{self.settled:.1f}",
        }
        return "\n".join(f"{name:<42}{value!s:>10}" for name, value in rows.items())


async def test_every_job_ends_once_and_rightly_whatever_is_killed(
    tmp_path: Path, number: int, lease: float, seed: int
) -> None:
    asked = list(jobs(number, random.Random(seed)))
    print(f"seed {seed} (repeat with --seed {seed})")
    async with running(JobSystem(tmp_path, lease=lease)) as (system, ps):
        began = time.monotonic()
        trial = Trial(system, ps, asked, seed)
        await trial.run()
        seconds = time.monotonic() - began
        found = await trial.checked()
        print(trial.table(found, seconds))
        assert not found, told(found, system)
        assert all(one.known for one in asked)
        assert system.killed([NATS]) >= 2


async def test_jobs_of_a_killed_worker_run_elsewhere_once_its_lease_is_over(
    tmp_path: Path, lease: float
) -> None:
    system = JobSystem(tmp_path, lease=lease, services=SERVICES[:1], workers=WORKERS[:2])
    async with running(system) as (_, ps):
        ids = {f"held-{n}" for n in range(20)}
        for id in sorted(ids):
            await ps.session.command(EnqueueJob(name="hold"), id=id)
        before = await until(ps, lambda stories: stories.of.keys() >= ids and _started(stories, 1))
        victim = max(WORKERS[:2], key=lambda name: _holds(before, name))
        lost_jobs = _holds(before, victim)
        await system.kill(victim)
        after = await until(ps, lambda stories: _restarted(stories) >= lost_jobs)
        took, _ = slowest_takeover(after, system.kills, [])
        print(f"{lost_jobs} jobs ran elsewhere after at most {took:.2f} s; the lease is {lease} s")
        assert 0 < took < lease + 2 + BUSY


def _started(stories: Stories, times: int) -> bool:
    return all(count(story, "started") >= times for story in stories.of.values())


def _restarted(stories: Stories) -> int:
    return sum(count(story, "started") > 1 for story in stories.of.values())


def _holds(stories: Stories, worker: str) -> int:
    return sum(story[-1].worker.startswith(worker) for story in stories.of.values())


async def until(ps: Penstock, holds: Callable[[Stories], bool]) -> Stories:
    """What the log tells, once it tells that."""
    log = JetStreamEventLog(ps.session.bus, "jobs")
    async with asyncio.timeout(30):
        while not holds(stories := Stories([record async for record in log.read()])):
            await asyncio.sleep(0.05)
    return stories


def told(found: list[Violation], system: JobSystem) -> str:
    """The first violations of each kind, and what the programs said."""
    kinds = sorted({violation.kind for violation in found})
    lines = [
        f"{v.kind}: {v.aggregate!r}: {v.what}"
        for kind in kinds
        for v in [v for v in found if v.kind == kind][:5]
    ]
    return "\n".join([f"{len(found)} violations", *lines, system.logs()])
