"""For tests of jobs: what is stored, and fixtures for the service, a client and workers.

A conftest imports the fixtures that its folder needs; all they start ends with the test.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.client import Penstock, Worker
from penstock.contracts.envelope import wrap
from penstock.contracts.job_state import JobState
from penstock.infra.event_log import JetStreamEventLog
from penstock.infra.host import Host
from penstock.infra.testing import running_system
from penstock.jobs.service import build

PROGRAM = Path(__file__).with_name("worker_program.py")
NewWorker = Callable[..., Worker]
Serve = Callable[[Worker], Awaitable[Worker]]


async def event_names(ps: Penstock, id: str) -> list[str]:
    """What happened to a job, such as `["queued", "started"]`."""
    return [entry.type.split(".")[2] for entry in await ps.jobs.history(id)]


async def work_item(ps: Penstock, job: JobState) -> int:
    """The sequence of the job's work item."""
    subjects = ps.session.bus.subjects
    request = {"last_by_subj": subjects.work(job.queue, job.priority, job.id)}
    [item] = await ps.session.bus.direct_get(subjects.stream("work"), request)
    return item.sequence


async def left(
    ps: Penstock, job: JobState, *events: msgspec.Struct, delivery: str = "dead"
) -> None:
    """Store what a worker had stored when it died."""
    log = JetStreamEventLog(ps.session.bus, "jobs", durability="os")
    sequence = (await log.load(job.id)).sequence
    for version, data in enumerate(events, 2):
        event = wrap(
            data,
            id=f"{delivery}:{version}",
            subject=job.id,
            time=datetime.now(UTC),
            correlationid=job.correlationid,
            version=version,
        )
        sequence = (await log.append([event], expected=sequence)).sequence


async def stored(ps: Penstock, stream: str) -> int:
    """How many messages a stream holds: `work` the items, `sched` the timers."""
    bus = ps.session.bus
    info = await bus.api(f"STREAM.INFO.{bus.subjects.stream(stream)}")
    return int(info["state"]["messages"])


async def nothing_left(ps: Penstock) -> None:
    """Wait until every item and every timer is gone: acknowledgements may be on their way."""
    async with asyncio.timeout(60):
        while await stored(ps, "work") or await stored(ps, "sched"):
            await asyncio.sleep(0.02)


class Program:
    """`worker_program.py` in a process of its own; `name` is the worker's."""

    def __init__(self, command: list[str], log: Path) -> None:
        with log.open("w") as stderr:
            self._process = subprocess.Popen(command, stderr=stderr, process_group=0)
        self.name = f"p{self._process.pid}"
        self._log = log

    def send(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        os.kill(self._process.pid, number)

    def send_to_group(self, number: signal.Signals) -> None:
        """Send a signal to the process and all in its group, as a terminal or a shell does."""
        os.killpg(self._process.pid, number)

    def wait(self, seconds: float = 60) -> int:
        """Wait for its end; its exit status."""
        return self._process.wait(seconds)

    def log(self) -> str:
        """What it logged until now."""
        return self._log.read_text()

    def end(self) -> None:
        """Kill it if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)


Spawn = Callable[..., Program]


@pytest.fixture
async def system(nats_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[Host]:
    """The jobs service and nothing else."""
    async with running_system(nats_url, prefix, tmp_path, {"jobs": build}) as host:
        yield host


@pytest.fixture
async def ps(system: Host, nats_url: str, prefix: str) -> AsyncIterator[Penstock]:
    """A client of it."""
    async with Penstock(nats_url, prefix=prefix, actor="tester", timeout=60) as client:
        yield client


@pytest.fixture
def new_worker(nats_url: str, prefix: str) -> NewWorker:
    """Makes a worker of the test's system, yet to be started."""

    def make(**options: Any) -> Worker:
        usual = {"prefix": prefix, "durability": "os", "grace": 5.0}
        return Worker(nats_url, **{**usual, **options})

    return make


@pytest.fixture
async def serve(ps: Penstock) -> AsyncIterator[Serve]:
    """Starts a worker, which is drained with the test."""
    async with AsyncExitStack() as stack:
        yield stack.enter_async_context


@pytest.fixture
def spawn(nats_url: str, prefix: str, tmp_path: Path) -> Iterator[Spawn]:
    """Starts a worker in a process of its own, which is killed with the test."""
    running: list[Program] = []

    def start(*, grace: float = 5.0) -> Program:
        command = [sys.executable, str(PROGRAM), nats_url, prefix, str(tmp_path), str(grace)]
        running.append(Program(command, tmp_path / f"log-{len(running)}"))
        return running[-1]

    yield start
    for program in running:
        program.end()
