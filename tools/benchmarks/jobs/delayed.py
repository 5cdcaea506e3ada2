"""How late delayed jobs begin, and what it costs that very many others wait for their time."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.jobs.figures import Figure
from benchmarks.jobs.memory import Memory
from benchmarks.jobs.processes import Program
from benchmarks.jobs.programs import CHUNK, IN_FLIGHT
from benchmarks.jobs.system import System, system
from penstock.client import JobSpec
from penstock.infra.nats_server.configuration import Durability

CONCURRENCY = 200
FAR = timedelta(hours=12)
RATE, SECONDS = 200, 15  # jobs that fall due each second, and for how long
BURST = 10_000  # jobs that fall due at one moment
LEAST_RATE = 4_000  # of enqueueing, jobs/s: to be done before the first falls due
LATEST = 0.5  # seconds
PATIENCE = 120.0  # seconds


class Lateness(msgspec.Struct, frozen=True):
    """Seconds from when jobs were due to their handler's first line."""

    p50: float
    p99: float
    most: float


async def delayed(directory: Path, durability: Durability, jobs: int) -> list[Figure]:
    """With `jobs` that wait for a far time: jobs due one after the other, and all at once."""
    async with (
        system(directory, durability) as there,
        there.service() as service,
        there.worker(CONCURRENCY) as worker,
    ):
        before = worker.memory
        memory = Memory(there.server, service, worker)
        rate = await _enqueued(there, _far(jobs), memory)
        spread = await _late(there, worker, _one_by_one(), SECONDS * RATE)
        burst = await _late(there, worker, _at_once(), BURST)
        grown = worker.memory - before
    waiting = f"{jobs:,} others wait"
    return [
        _figure("enqueue_many, delayed", durability, rate, note=f"{jobs:,} jobs; {memory}"),
        _figure(
            f"lateness of {RATE} delayed jobs a second, p99",
            durability,
            spread.p99 * 1000,
            unit="ms",
            target=LATEST * 1000,
            note=f"{waiting}; p50 {spread.p50 * 1000:.0f} ms, the latest {spread.most:.2f} s",
        ),
        _figure(
            f"{BURST:,} delayed jobs due at one moment",
            durability,
            BURST / burst.most,
            note=f"{waiting}; p50 {burst.p50:.2f} s late, the latest {burst.most:.2f} s",
        ),
        _figure(
            "memory that they cost the worker",
            durability,
            grown,
            unit="MB",
            note=f"{waiting}, {BURST + SECONDS * RATE:,} of its own have run",
        ),
    ]


def _figure(what: str, durability: Durability, value: float, **more: Any) -> Figure:
    target = more.get("target")
    return Figure(what=what, value=value, durability=durability, most=target is not None, **more)


async def _enqueued(there: System, specs: Iterable[JobSpec], memory: Memory | None = None) -> float:
    """How many jobs a second were."""
    started, count = time.perf_counter(), 0
    async for job in there.ps.jobs.enqueue_many(specs, chunk=CHUNK, in_flight=IN_FLIGHT):
        if job.problem is not None:
            raise RuntimeError(job.problem.detail)
        count += 1
        if memory and not count % CHUNK:
            memory.look(time.perf_counter())
    return count / (time.perf_counter() - started)


def _far(count: int) -> Iterator[JobSpec]:
    at = datetime.now(UTC) + FAR
    for n in range(count):
        yield JobSpec(name="noop", payload={"n": n}, run_at=at + timedelta(seconds=n % 3600))


def _one_by_one() -> Iterator[float]:
    count = RATE * SECONDS
    first = _moment(count)
    return (first + n / RATE for n in range(count))


def _at_once() -> Iterator[float]:
    return itertools.repeat(_moment(BURST), BURST)


def _moment(count: int) -> float:
    """Late enough that so many jobs are enqueued by then."""
    return float(int(time.time()) + 4 + count // LEAST_RATE)


async def _late(there: System, worker: Program, moments: Iterator[float], count: int) -> Lateness:
    def specs() -> Iterator[JobSpec]:
        for due in moments:
            run_at = datetime.fromtimestamp(due, UTC)
            yield JobSpec(name="due", payload={"at": due, "of": count}, run_at=run_at)

    await _enqueued(there, specs())
    async with asyncio.timeout(PATIENCE):
        return msgspec.json.decode(await worker.said(PATIENCE), type=Lateness)
