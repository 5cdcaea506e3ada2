"""How fast jobs go through a limit, a rate and tenants, beside jobs that go through nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.jobs.figures import Figure
from benchmarks.jobs.system import LOOK, PATIENCE, System, system
from penstock.client import JobSpec, Penstock
from penstock.contracts.answers import Question
from penstock.contracts.job_reads import QueueDepth
from penstock.contracts.jobs import Limit, Rate, Rules
from penstock.infra.nats_server.configuration import Durability

CONCURRENCY = 200
MOST = 5_000  # jobs for each figure
LEAST = 1_500
TENANTS = 10


def _rules(kind: str, number: int) -> Rules:
    match kind:
        case "a limit of 1,000":
            return Rules(limit=Limit(key="wide", at_most=1_000))
        case "a limit of 3":
            return Rules(limit=Limit(key="narrow", at_most=3))
        case "a rate of 100,000 a second":
            return Rules(rate=Rate(key="high", at_most=100_000))
        case "one tenant":
            return Rules(tenant="one")
        case "ten tenants":
            return Rules(tenant=str(number % TENANTS))
        case _:
            return Rules()


# What is reached through each, if a figure is aimed at.
KINDS: dict[str, int | None] = {
    "nothing": None,
    "a limit of 1,000": LEAST,
    "a limit of 3": None,
    "a rate of 100,000 a second": LEAST,
    "one tenant": LEAST,
    "ten tenants": LEAST,
}


async def gates(directory: Path, durability: Durability, jobs: int, payload: int) -> list[Figure]:
    """Jobs that wait already are worked off by one worker, one kind after the other."""
    count, figures = min(jobs, MOST), list[Figure]()
    plain = 0.0
    for kind, least in KINDS.items():
        async with system(directory, durability) as there, there.service() as service:
            enqueued = await _enqueue(there.ps, kind, count, payload)
            before = service.cpu
            value, worker = await _worked_off(there, count)
            cpu = (service.cpu - before) / count * 1000, worker / count * 1000
        plain = plain or value
        figures.append(
            Figure(
                what=f"through {kind}",
                value=value,
                durability=durability,
                events=3,
                payload=payload,
                target=least,
                note=f"{value / plain:.2f} of those through nothing; ms of processor time a job: "
                f"service {cpu[0]:.2f}, worker {cpu[1]:.2f}; enqueued {enqueued:,.0f}/s",
            )
        )
    return figures


def _jobs(kind: str, count: int, payload: int) -> Iterator[JobSpec]:
    text = "x" * max(0, payload - 20)
    for n in range(count):
        yield JobSpec(name="noop", payload={"n": n, "text": text}, rules=_rules(kind, n))


async def _enqueue(ps: Penstock, kind: str, count: int, payload: int) -> float:
    """Enqueue them; how many a second."""
    started = time.perf_counter()
    async for job in ps.jobs.enqueue_many(_jobs(kind, count, payload), chunk=500, in_flight=4):
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
