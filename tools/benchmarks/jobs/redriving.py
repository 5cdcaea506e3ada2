"""How fast dead jobs are redriven and discarded, and what is listed of them meanwhile."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from benchmarks.jobs.figures import Figure
from benchmarks.jobs.memory import Memory
from benchmarks.jobs.processes import Program
from benchmarks.jobs.system import System, system
from penstock.client.jobs_dead import Settled
from penstock.contracts.envelope import encode, wrap
from penstock.contracts.jobs import SERVICE, JobError, JobFailed, JobQueued
from penstock.contracts.subjects import EXPECTED
from penstock.infra.bus import Message
from penstock.infra.commit import publish_batch
from penstock.infra.nats_server.configuration import Durability

TOGETHER = 500  # jobs, of two events each
LEAST = 3_000
TRACEBACK = "x" * 400
Told = Callable[[int], object]


async def redriving(directory: Path, durability: Durability, jobs: int) -> list[Figure]:
    """Two thirds of the dead jobs are redriven by their class of error, and a third discarded."""
    async with system(directory, durability) as there, there.service() as service:
        await _die(there, jobs)
        await _folded(there)
        first = await _listed(there)
        jobs_of = there.ps.jobs
        redriven = await _settled(
            there, service, lambda told: jobs_of.redrive_all(error="ValueError", told=told)
        )
        discarded = await _settled(there, service, lambda told: jobs_of.discard_all(told=told))
    listed = f"the first page and the counts in {first * 1000:.0f} ms"
    return [
        _figure("redrive_all by class of error", durability, *redriven, more=listed),
        _figure("discard_all", durability, *discarded),
    ]


def _figure(
    what: str, durability: Durability, rate: float, count: int, memory: Memory, *, more: str = ""
) -> Figure:
    return Figure(
        what=what,
        value=rate,
        durability=durability,
        events=1,
        target=LEAST if what.startswith("redrive") else None,
        note="; ".join(said for said in (f"{count:,} jobs", more, str(memory)) if said),
    )


async def _settled(
    there: System, service: Program, settle: Callable[[Told], Awaitable[Settled]]
) -> tuple[float, int, Memory]:
    memory = Memory(there.server, service)
    started = time.perf_counter()
    settled = await settle(lambda _: memory.look(time.perf_counter()))
    seconds = time.perf_counter() - started
    if settled.refused:
        raise RuntimeError(f"{settled.refused} were refused: {settled.left}")
    return settled.done / seconds, settled.done, memory


async def _listed(there: System) -> float:
    """Seconds for a page of dead jobs, and for how many there are of each class of error."""
    started = time.perf_counter()
    async for _ in there.ps.jobs.dead(error="ValueError"):
        break
    await there.ps.jobs.dead_counts()
    return time.perf_counter() - started


async def _folded(there: System) -> None:
    """Wait until the view has them all."""
    while True:
        if await there.folded() >= await there.events():
            return
        await asyncio.sleep(0.1)


async def _die(there: System, count: int) -> None:
    """Store jobs that have failed, as they would be after their attempts."""
    for first in range(0, count, TOGETHER):
        numbers = range(first, min(count, first + TOGETHER))
        batch = [message for n in numbers for message in _dead(there, n)]
        await publish_batch(there.ps.session.bus, batch, timeout=60)


def _dead(there: System, number: int) -> list[Message]:
    id = uuid.uuid4().hex
    kind = "ValueError" if number % 3 else "KeyError"
    error = JobError(type=kind, message=f"no {number}", traceback=TRACEBACK)
    events = (
        JobQueued(name="noop", payload={"n": number}),
        JobFailed(attempt=3, error=error),
    )
    subject = there.ps.session.bus.subjects.event(SERVICE, id)
    return [
        (subject, _event(data, id, version), {EXPECTED: "0"} if version == 1 else {})
        for version, data in enumerate(events, 1)
    ]


def _event(data: msgspec.Struct, id: str, version: int) -> bytes:
    event = wrap(
        data,
        id=f"{id}:{version}",
        subject=id,
        time=datetime.now(UTC),
        correlationid=id,
        version=version,
    )
    return encode(event)
