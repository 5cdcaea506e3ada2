"""How soon an idle worker begins a job, and how soon another one takes over from a killed one."""

from __future__ import annotations

import asyncio
import signal
import statistics
import time
from pathlib import Path

from benchmarks.jobs.figures import Figure
from benchmarks.jobs.processes import Program
from benchmarks.jobs.system import System, system
from penstock.infra.nats_server.configuration import Durability

TURNS, KILLS = 300, 3
PAUSE = 0.02  # seconds between two jobs: the system is idle again by then
LEASE = 5.0  # seconds, a worker's default
CONCURRENCY = 10


async def pickup(directory: Path, durability: Durability) -> list[Figure]:
    """From the call of `enqueue` to the start of the handler, in milliseconds."""
    async with (
        system(directory, durability) as there,
        there.service(),
        there.worker(CONCURRENCY) as worker,
    ):
        await asyncio.sleep(1.0)
        found = [await _picked_up(there, worker) for _ in range(TURNS)][10:]
    percentiles = statistics.quantiles(found, n=100, method="inclusive")
    return [
        _milliseconds("idle pickup, p50", durability, percentiles[49], 5),
        _milliseconds("idle pickup, p99", durability, percentiles[98], 20),
    ]


async def _picked_up(there: System, worker: Program) -> float:
    await asyncio.sleep(PAUSE)
    started = time.time()
    await there.ps.jobs.enqueue("now")
    return (_began(await worker.said(10)) - started) * 1000


def _milliseconds(what: str, durability: Durability, value: float, most: float) -> Figure:
    return Figure(
        what=what,
        value=value,
        unit="ms",
        durability=durability,
        events=3,
        target=most,
        most=True,
        note=f"{TURNS} jobs, from the call of enqueue to the handler's first line",
    )


async def takeover(directory: Path, durability: Durability) -> list[Figure]:
    """From kill -9 of a worker to the start of its job elsewhere, in seconds."""
    async with system(directory, durability) as there, there.service():
        found = [await _taken_over(there) for _ in range(KILLS)]
    return [
        Figure(
            what="take-over from a killed worker, the longest",
            value=max(found),
            unit="s",
            durability=durability,
            events=5,
            target=LEASE + 2,
            most=True,
            note=f"lease {LEASE:g} s; {', '.join(f'{seconds:.1f}' for seconds in found)}",
        )
    ]


async def _taken_over(there: System) -> float:
    async with there.worker(1) as victim:
        job = await there.ps.jobs.enqueue("long")
        await victim.said(30)
        await asyncio.sleep(1.0)  # it has renewed its lease, or is about to
        async with there.worker(1) as other:
            victim.send(signal.SIGKILL)
            killed = time.time()
            began = _began(await other.said(60))
        await there.ps.jobs.cancel(job.id)
        return began - killed


def _began(said: str) -> float:
    return float(said.removeprefix("began "))
