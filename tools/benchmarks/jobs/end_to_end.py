"""Jobs from command to completed, with client, service, view and worker at work at once."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.jobs.figures import Figure
from benchmarks.jobs.memory import Memory
from benchmarks.jobs.system import EVENTS, system
from penstock.infra.nats_server.configuration import Durability

CONCURRENCY = 500
LEAST = 6_000


async def end_to_end(
    directory: Path, durability: Durability, jobs: int, payload: int
) -> list[Figure]:
    """Enqueued many at a time, and one by one by 256 callers."""
    return [
        await _through(directory, durability, "many", jobs, payload),
        await _through(directory, durability, "singly", min(jobs, 30_000), payload),
    ]


async def _through(
    directory: Path, durability: Durability, how: str, jobs: int, payload: int
) -> Figure:
    async with (
        system(directory, durability) as there,
        there.service() as service,
        there.worker(CONCURRENCY) as worker,
        there.client(how, jobs, payload) as client,
    ):
        before = await there.events()
        memory = Memory(service, worker, client)
        started = time.perf_counter()
        ended = await there.reached(_all(jobs), memory.look)
        behind = _all(jobs) - await there.folded()
    return Figure(
        what=f"end to end, {'enqueue_many' if how == 'many' else 'enqueued one by one'}",
        value=(_all(jobs) - before) / EVENTS / (ended - started),
        durability=durability,
        events=EVENTS,
        payload=payload,
        target=LEAST if how == "many" else None,
        note=f"{jobs:,} jobs; view {max(0, behind):,} events behind at the end; {memory}",
    )


def _all(jobs: int) -> int:
    """The events of the jobs that are measured, and of those that warm the client up."""
    return EVENTS * (jobs + min(500, jobs))
