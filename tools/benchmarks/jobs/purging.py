"""How fast the jobs that wait in a queue are purged, those that workers were offered and those that
wait for their time or for a place.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.jobs.figures import Figure
from benchmarks.jobs.memory import Memory
from benchmarks.jobs.system import LOOK, System, system
from penstock.client import JobSpec
from penstock.contracts.jobs import Limit, Rules
from penstock.infra.nats_server.configuration import Durability

LEAST = 5_000
HOUR = 3600.0  # seconds
PATIENCE = 600.0  # seconds
LIMITED = Rules(limit=Limit(key="k", at_most=100))


async def purging(directory: Path, durability: Durability, jobs: int) -> list[Figure]:
    """One queue of each kind of waiting jobs."""
    figures = list[Figure]()
    async with system(directory, durability) as there, there.service() as service:
        for kind in ("ready", "delayed", "behind a limit"):
            await _enqueue(there, kind, jobs)
            memory, before = Memory(there.server, service), (service.cpu, there.server.cpu)
            started = time.perf_counter()
            purged = asyncio.create_task(there.ps.queues.purge(kind, timeout=PATIENCE))
            while not purged.done():
                memory.look(time.perf_counter())
                await asyncio.wait({purged}, timeout=LOOK)
            await purged
            seconds = time.perf_counter() - started
            cpu = [
                (now - then) / jobs * 1e6
                for now, then in zip((service.cpu, there.server.cpu), before, strict=True)
            ]
            figures.append(
                Figure(
                    what=f"purge of jobs that are {kind}",
                    value=jobs / seconds,
                    durability=durability,
                    events=1,
                    target=LEAST if kind == "ready" else None,
                    note=f"{jobs:,} jobs; us of processor time a job: service {cpu[0]:.0f}, server "
                    f"{cpu[1]:.0f}; {memory}",
                )
            )
    return figures


async def _enqueue(there: System, kind: str, count: int) -> None:
    async for job in there.ps.jobs.enqueue_many(_jobs(kind, count), chunk=500, in_flight=4):
        if job.problem is not None:
            raise RuntimeError(job.problem.detail)
    while await there.folded() < await there.events():  # noqa: ASYNC110 - another process does it
        await asyncio.sleep(LOOK)


def _jobs(kind: str, count: int) -> Iterator[JobSpec]:
    delay = HOUR if kind == "delayed" else 0.0
    rules = LIMITED if kind == "behind a limit" else Rules()
    for n in range(count):
        yield JobSpec(name="noop", payload={"n": n}, queue=kind, delay=delay, rules=rules)
