"""How fast jobs go through a limit, a rate and tenants, beside jobs that go through nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from benchmarks.jobs.figures import Figure
from benchmarks.jobs.system import LOOK, PATIENCE, System, system
from penstock.client import JobSpec, Penstock
from penstock.contracts.answers import Question
from penstock.contracts.job_reads import QueueDepth
from penstock.contracts.jobs import Limit, Rate, Rules
from penstock.infra.nats_server.configuration import Durability

CONCURRENCY = 200
MOST = 5_000  # jobs for each figure, and
FEW = 1_000  # where they go one after the other, nearly
LEAST = 1_500
TENANTS, KEYS = 10, 1_000
PLACES, TAKES = 3, 0.1  # jobs at a time, and the seconds that each takes
USED = 90.0  # percent of what places there are


class Kind(msgspec.Struct, frozen=True):
    """Jobs with the rules that `rules` gives each by its number, not `most` or more of them, and
    what is reached of them in a second if a figure is aimed at.
    """

    what: str
    rules: Callable[[int], Rules]
    target: int | None = None
    most: int = MOST


def _limit(at_most: int, keys: int = 1) -> Callable[[int], Rules]:
    return lambda n: Rules(limit=Limit(key=f"k{n % keys}", at_most=at_most))


KINDS = [
    Kind("nothing", lambda _: Rules()),
    Kind("a limit of 1,000", _limit(1_000), LEAST),
    Kind("a limit of 3", _limit(3), 300, FEW),
    Kind("a limit of 1", _limit(1), None, FEW),
    Kind("a limit of 1 for each of 1,000 keys", _limit(1, KEYS), None, 20 * KEYS),
    Kind(
        "a rate of 100,000 a second",
        lambda _: Rules(rate=Rate(key="high", at_most=100_000)),
        LEAST,
    ),
    Kind("one tenant", lambda _: Rules(tenant="one"), LEAST),
    Kind("ten tenants", lambda n: Rules(tenant=str(n % TENANTS)), LEAST),
]


async def gates(directory: Path, durability: Durability, jobs: int, payload: int) -> list[Figure]:
    """Jobs that wait already are worked off by one worker, one kind after the other."""
    figures, plain = list[Figure](), 0.0
    for kind in KINDS:
        count = min(jobs, kind.most)
        async with system(directory, durability) as there, there.service() as service:
            enqueued = await _enqueue(there.ps, _jobs(kind, count, payload), count)
            before = service.cpu
            value, worker = await _worked_off(there, count)
            cpu = (service.cpu - before) / count * 1000, worker / count * 1000
        plain = plain or value
        figures.append(
            Figure(
                what=f"through {kind.what}",
                value=value,
                durability=durability,
                events=3,
                payload=payload,
                target=kind.target,
                note=f"{value / plain:.2f} of those through nothing; ms of processor time a job: "
                f"service {cpu[0]:.2f}, worker {cpu[1]:.2f}; enqueued {enqueued:,.0f}/s",
            )
        )
    return [*figures, await _used(directory, durability)]


async def _used(directory: Path, durability: Durability) -> Figure:
    """How much of a limit is used by jobs that take a while."""
    count = 50 * PLACES
    rules = _limit(PLACES)
    async with system(directory, durability) as there, there.service():
        specs = (
            JobSpec(name="takes", payload={"seconds": TAKES}, rules=rules(n)) for n in range(count)
        )
        await _enqueue(there.ps, specs, count)
        value, _ = await _worked_off(there, count)
    return Figure(
        what=f"use of a limit of {PLACES} by jobs of {TAKES * 1000:.0f} ms",
        value=100 * value * TAKES / PLACES,
        unit="%",
        durability=durability,
        events=3,
        target=USED,
    )


def _jobs(kind: Kind, count: int, payload: int) -> Iterator[JobSpec]:
    text = "x" * max(0, payload - 20)
    for n in range(count):
        yield JobSpec(name="noop", payload={"n": n, "text": text}, rules=kind.rules(n))


async def _enqueue(ps: Penstock, specs: Iterable[JobSpec], count: int) -> float:
    """Enqueue them; how many a second."""
    started = time.perf_counter()
    async for job in ps.jobs.enqueue_many(specs, chunk=500, in_flight=4):
        if job.problem is not None:
            raise RuntimeError(job.problem.detail)
    return count / (time.perf_counter() - started)


async def _worked_off(there: System, count: int) -> tuple[float, float]:
    """How many a second, and the processor time that the worker took."""
    while await _left(there) < count:  # noqa: ASYNC110 - another process is waited for
        await asyncio.sleep(LOOK)
    async with there.worker(CONCURRENCY) as worker:
        before = worker.cpu
        started = heard = time.perf_counter()
        last = count
        while left := await _left(there):
            now = time.perf_counter()
            if left != last:
                last, heard = left, now
            if now - heard > PATIENCE:
                raise RuntimeError(f"It stands still with {left} of {count} jobs left.")
            await asyncio.sleep(LOOK)
        return count / (time.perf_counter() - started), worker.cpu - before


async def _left(there: System) -> int:
    depths, _ = await there.ps.session.ask("jobs", "queues", Question(), list[QueueDepth])
    return sum(one.waiting + one.delayed + one.processing for one in depths)
