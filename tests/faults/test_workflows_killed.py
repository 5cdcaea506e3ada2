"""kill -9 of workers, of the jobs service and of nats-server while a workflow of many jobs runs.

Every job is done once, its workflow hears of it once, and what the jobs returned is passed on.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.client import Item, Penstock, chain, step
from penstock.contracts.answers import HistoryEntry
from penstock.contracts.envelope import unwrap
from penstock.contracts.errors import Unavailable
from penstock.contracts.jobs import JobCompleted, Rules
from penstock.infra.event_log import JetStreamEventLog
from support.faults.job_system import NATS, SERVICES, WORKERS, JobSystem, running

MAPPED = 1_500  # jobs of each of the two steps
KILLS = 8
EVERY = 0.7  # seconds between two
PATIENCE = 90.0  # seconds until all is done

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="kills process groups"),
    pytest.mark.timeout(0),  # each wait has its own bound
]


async def test_a_workflow_of_many_jobs_is_completed_once_whatever_is_killed(
    tmp_path: Path, seed: int
) -> None:
    print(f"seed {seed} (repeat with --seed {seed})")
    system = JobSystem(tmp_path, lease=1.0, workers=WORKERS[:2])
    async with running(system) as (_, ps):
        starting = asyncio.create_task(started(ps))
        for victim in victims(random.Random(seed)):
            await asyncio.sleep(EVERY)
            system.check()
            await system.kill(victim)
        await starting
        history = await ended(ps)
        names = [entry.type.split(".")[2] for entry in history]
        assert names[-1] == "workflow_completed", system.logs()
        heard = Counter(heard_of(history))
        assert (len(heard), set(heard.values())) == (2 * MAPPED, {1})
        assert await returned(ps) == {f"w.second.{n}": [n**4] for n in range(MAPPED)}


def victims(chance: random.Random) -> Iterator[str]:
    """The server once, and else whoever it hits."""
    for number in range(KILLS):
        yield NATS if number == KILLS // 2 else chance.choice((*SERVICES, *WORKERS[:2]))


async def started(ps: Penstock) -> None:
    """Start it, however often that takes."""
    rules = Rules(max_crashes=KILLS)  # those that are killed are no fault of the jobs
    payload = {"n": Item(), "flaky": False}
    first = step("square", payload, key="first", each=list(range(MAPPED)), rules=rules)
    flow = chain(first, step("square", payload, key="second", each="first", rules=rules))
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await ps.workflows.start(flow, id="w", command_id="start")
            except Unavailable:
                await asyncio.sleep(0.1)
            else:
                return


async def ended(ps: Penstock) -> list[HistoryEntry]:
    """What happened to it, once it is over."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if (await ps.workflows.get("w")).is_over or time.monotonic() > deadline:
                return await ps.workflows.history("w")
        except Unavailable:
            assert time.monotonic() < deadline, "the jobs service does not answer"
        await asyncio.sleep(0.1)


def heard_of(history: list[HistoryEntry]) -> Iterator[tuple[str, int]]:
    """The place of each job that the workflow took as ended."""
    for entry in history:
        for end in entry.data.get("ends", [entry.data]):
            if "how" in end:
                yield end["key"], end.get("index", 0)


async def returned(ps: Penstock) -> dict[str, list[Any]]:
    """What the jobs of the second step returned, by the log; each once if all is well."""
    found: dict[str, list[Any]] = {}
    async for record in JetStreamEventLog(ps.session.bus, "jobs").read():
        id = record.event.subject
        if id.startswith("w.second.") and isinstance(end := unwrap(record.event), JobCompleted):
            found.setdefault(id, []).append(end.result)
    return found
