"""A system to measure: a server, a connection to it, and what is stored there."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.jobs.processes import Program, ours, processor, program, resident
from penstock.client import Penstock
from penstock.contracts.answers import Question
from penstock.contracts.job_reads import QueueDepth
from penstock.infra.consuming.consumers import consumers_of
from penstock.infra.nats_server import EmbeddedNats
from penstock.infra.nats_server.configuration import Durability
from penstock.infra.streams import provision

EVENTS = 3  # stored for a job: queued, started, completed
LOOK = 0.05  # seconds between two looks
PATIENCE = 60.0  # seconds without any news
_numbers = itertools.count()


class Server:
    """The nats-server, as a program whose memory and time are looked at."""

    name = "server"

    def __init__(self, nats: EmbeddedNats) -> None:
        self._nats = nats

    @property
    def memory(self) -> float:
        """Its resident memory now, in MB."""
        return resident(self._nats.pid)

    @property
    def cpu(self) -> float:
        """The seconds of processor time that it has taken."""
        return processor(self._nats.pid)


class System:
    """A server with the streams of the system, for one measurement or several."""

    def __init__(
        self, nats: EmbeddedNats, directory: Path, durability: Durability, ps: Penstock
    ) -> None:
        self.url = nats.url
        self.server = Server(nats)
        self.durability = durability
        self.ps = ps
        self._directory = directory

    @asynccontextmanager
    async def service(self) -> AsyncIterator[Program]:
        """A process with the jobs service."""
        directory = self._directory / "service"
        async with program(ours("service", self.url, directory, self.durability), "service") as it:
            yield it

    @asynccontextmanager
    async def worker(self, concurrency: int) -> AsyncIterator[Program]:
        """A process with one worker."""
        async with program(ours("worker", self.url, self.durability, concurrency), "worker") as it:
            yield it

    @asynccontextmanager
    async def client(self, how: str, count: int, *more: object) -> AsyncIterator[Program]:
        """A process that enqueues so many jobs."""
        async with program(ours("client", self.url, how, count, *more), "client") as it:
            yield it

    async def events(self) -> int:
        """How many events are stored."""
        return await self._messages(self.ps.session.bus.subjects.event_stream("jobs"))

    async def items(self) -> int:
        """How many work items are to be done or not acknowledged."""
        bus = self.ps.session.bus
        lanes = await consumers_of(bus, bus.subjects.stream("work"))
        return sum(lane["num_pending"] + lane["num_ack_pending"] for lane in lanes)

    async def folded(self) -> int:
        """The sequence that the view stands at."""
        _, answer = await self.ps.session.ask("jobs", "queues", Question(), list[QueueDepth])
        return answer.sequence

    async def reached(self, events: int, look: Callable[[float], object] = lambda _: None) -> float:
        """Wait until so many events are stored and all work is gone; when that was so."""
        heard, last = time.perf_counter(), -1
        while True:
            found, now = await self.events(), time.perf_counter()
            if found >= events and not await self.items():
                return now
            if found != last:
                heard, last = now, found
            if now - heard > PATIENCE:
                raise RuntimeError(f"It stands still at {found} of {events} events.")
            look(now)
            await asyncio.sleep(LOOK)

    async def _messages(self, stream: str) -> int:
        info = await self.ps.session.bus.api(f"STREAM.INFO.{stream}")
        return int(info["state"]["messages"])


@asynccontextmanager
async def system(directory: Path, durability: Durability) -> AsyncIterator[System]:
    """A server of its own, with empty streams."""
    here = directory / f"{durability}-{next(_numbers)}"
    async with (
        EmbeddedNats(here / "nats", durability=durability) as server,
        Penstock(server.url, timeout=60) as ps,
    ):
        await provision(ps.session.bus)
        yield System(server, here, durability, ps)
