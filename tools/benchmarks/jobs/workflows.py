"""Workflows of many jobs: a map, a group, and a step that waits for many. Measures nothing else."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.jobs.figures import Figure
from benchmarks.jobs.memory import Memory
from benchmarks.jobs.system import system
from penstock.client import INDEX, Flow, Result, chain, group, step
from penstock.contracts.workflows import Step
from penstock.infra.nats_server.configuration import Durability

CONCURRENCY = 500
MAPPED, GROUPED = 10_000, 1_000
MOST = 10.0  # seconds
PATIENCE = 300.0


async def workflows(directory: Path, durability: Durability) -> list[Figure]:
    """From the call that starts one to its last step's end."""
    return [
        await _run(directory, durability, "a map over 10,000", _map(), MAPPED),
        await _run(directory, durability, "a group of 1,000", _group(), GROUPED),
        await _run(directory, durability, "a step after 1,000", _joined(), GROUPED),
    ]


def _map() -> Flow:
    each = step("noop", {"n": INDEX}, key="each", each=list(range(MAPPED)))
    return chain(each, step("ignore", {"n": Result("each")}, key="last"))


def _group() -> Flow:
    return group(*_many())


def _joined() -> Flow:
    given = [Result(one.key) for one in _many()]
    return chain(group(*_many()), step("ignore", {"n": given}, key="last"))


def _many() -> list[Step]:
    return [step("noop", {"n": n}, key=f"s{n}") for n in range(GROUPED)]


async def _run(directory: Path, durability: Durability, what: str, flow: Flow, jobs: int) -> Figure:
    async with (
        system(directory, durability) as there,
        there.service() as service,
        there.worker(CONCURRENCY) as worker,
    ):
        memory = Memory(service, worker)
        started = time.perf_counter()
        await there.ps.workflows.start(flow, id="w")
        begun = time.perf_counter() - started
        async for _ in there.ps.workflows.watch("w"):
            memory.look(time.perf_counter())
        seconds = time.perf_counter() - started
    return Figure(
        what=what,
        value=seconds,
        unit="s",
        durability=durability,
        events=3,
        target=MOST,
        most=True,
        note=f"{jobs / seconds:,.0f} jobs/s; its start took {begun:.1f} s; {memory}",
    )
