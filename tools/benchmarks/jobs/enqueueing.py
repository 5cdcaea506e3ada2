"""How fast jobs are enqueued, with the service's view folding beside it."""

from __future__ import annotations

from pathlib import Path

from benchmarks.jobs.figures import Figure
from benchmarks.jobs.system import system
from penstock.infra.nats_server.configuration import Durability

SINGLE = 10_000
LEAST = 30_000
LONGEST = 600.0  # seconds


async def enqueueing(
    directory: Path, durability: Durability, jobs: int, payload: int
) -> list[Figure]:
    """By `enqueue_many`, and one by one by 256, 64 and one caller."""
    ways = [("many", jobs, 0), ("singly", SINGLE, 256), ("singly", SINGLE, 64), ("singly", 1000, 1)]
    figures = []
    for how, count, callers in ways:
        async with (
            system(directory, durability) as there,
            there.service(),
            there.client(how, count, payload, callers) as client,
        ):
            rate = float(await client.said(LONGEST))
        many = how == "many"
        figures.append(
            Figure(
                what="enqueue_many" if many else f"enqueue, {callers} callers",
                value=rate,
                durability=durability,
                events=1,
                payload=payload,
                target=LEAST if many and durability == "os" else None,
                note=f"{count:,} jobs",
            )
        )
    return figures
