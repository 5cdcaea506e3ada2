"""How fast one worker process drains jobs that wait, and the bare loop that could do no better."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.jobs.bare import bare
from benchmarks.jobs.figures import Figure
from benchmarks.jobs.programs import many
from benchmarks.jobs.system import EVENTS, System, system
from penstock.infra.nats_server.configuration import Durability

CONCURRENCY = 2400
LEAST: dict[Durability, int] = {"os": 15_000, "fsync": 10_000}


async def drain(directory: Path, durability: Durability, jobs: int, payload: int) -> list[Figure]:
    """By the worker alone, with the service folding beside it, and by the bare loop."""
    alone = await _drained(directory, durability, jobs, payload, folding=False)
    beside = await _drained(directory, durability, jobs, payload, folding=True)
    async with system(directory, durability) as there:
        raw = await bare(there, jobs, payload)
    rows = [
        ("drain, the worker alone", "ours", alone, LEAST[durability]),
        ("drain, the service folding beside it", "ours", beside, None),
        ("drain, a bare loop", "raw nats-py", raw, None),
    ]
    return [
        Figure(
            what=what,
            system=of,
            value=value,
            durability=durability,
            events=2,
            payload=payload,
            target=target,
            note=f"{value / raw:.2f} of the bare loop" if of == "ours" else "",
        )
        for what, of, value, target in rows
    ]


async def _drained(
    directory: Path, durability: Durability, jobs: int, payload: int, *, folding: bool
) -> float:
    async with system(directory, durability) as there:
        async with there.service():
            await many(there.ps, jobs, payload)
            if folding:
                return await _by_worker(there, jobs)
        return await _by_worker(there, jobs)


async def _by_worker(there: System, jobs: int) -> float:
    async with there.worker(CONCURRENCY):
        started = time.perf_counter()
        return jobs / (await there.reached(EVENTS * jobs) - started)
