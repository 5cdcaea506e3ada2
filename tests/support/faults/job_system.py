"""A nats-server, two instances of the jobs service and several workers, each to be killed.

Starts and kills; never judges. What was started ends with `JobSystem.close`, whatever happened.
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from penstock.client import Penstock
from penstock.contracts.errors import Unavailable
from penstock.contracts.views import Verify
from penstock.infra.bus import Bus
from penstock.infra.control import ask_all
from support.command_line import CLEAN, PENSTOCK
from support.faults import job_worker
from support.faults.processes import KilledNats, Restarted

SERVICES = ("jobs-1", "jobs-2")
WORKERS = ("worker-1", "worker-2", "worker-3")
NATS = "nats-server"
SHOWN = 3000  # characters of each log


class JobSystem:
    """`kills` tells when each part was killed."""

    def __init__(
        self,
        directory: Path,
        *,
        lease: float,
        services: Sequence[str] = SERVICES,
        workers: Sequence[str] = WORKERS,
    ) -> None:
        self.kills: defaultdict[str, list[datetime]] = defaultdict(list)
        self.victims = (*services, *workers)
        self._directory = directory
        self._lease = lease
        self._services = services
        self._workers = workers
        self._nats = KilledNats(directory / "nats", "fsync")
        self._programs: dict[str, Restarted] = {}

    @property
    def url(self) -> str:
        return self._nats.url

    @property
    def instances(self) -> int:
        """How many instances of the service there are."""
        return len(self._services)

    async def start(self) -> None:
        await self._nats.start()
        for name in self._services:
            env = {
                **CLEAN,
                "PENSTOCK_NATS_URL": self.url,
                "PENSTOCK_DATA": str(self._directory / name),
                "PENSTOCK_HTTP_PORT": "0",
                "PENSTOCK_DURABILITY": "fsync",
            }
            self._add(name, [*PENSTOCK, "serve", "jobs"], env)
        for name in self._workers:
            work = [sys.executable, job_worker.__file__, self.url, name, f"{self._lease:g}"]
            self._add(name, work, CLEAN)
        for program in self._programs.values():
            await program.start()

    async def kill(self, name: str) -> None:
        """SIGKILL one by its name; it is started again."""
        self.kills[name].append(datetime.now(UTC))
        await (self._nats if name == NATS else self._programs[name]).kill()

    def killed(self, names: Sequence[str]) -> int:
        """How often these were killed."""
        return sum(len(self.kills[name]) for name in names)

    def check(self) -> None:
        """Raises what keeps a part from being started again."""
        self._nats.check()
        for program in self._programs.values():
            program.check()

    @property
    def given_up(self) -> int:
        """How often a program ended though nobody killed it: the server was away."""
        return sum(program.given_up for program in self._programs.values())

    async def close(self) -> None:
        closing = [program.close() for program in self._programs.values()]
        await asyncio.gather(*closing, return_exceptions=True)
        await self._nats.close()

    def logs(self) -> str:
        """The end of what each program had to say."""
        paths = sorted(self._directory.glob("*.log"))
        return "\n".join(f"== {path.name}\n{path.read_text()[-SHOWN:]}" for path in paths)

    def _add(self, name: str, command: list[str], env: dict[str, str]) -> None:
        self._programs[name] = Restarted(name, command, env, self._directory / f"{name}.log")


@asynccontextmanager
async def running(system: JobSystem) -> AsyncIterator[tuple[JobSystem, Penstock]]:
    """The system started, and a client of it that was answered."""
    try:
        await system.start()
        async with Penstock(system.url, timeout=2.0) as ps:
            await answered(ps.session.bus)
            yield system, ps
    finally:
        await system.close()


async def answered(bus: Bus) -> None:
    """Wait until the service is there."""
    async with asyncio.timeout(60):
        while True:
            try:
                async for _ in ask_all(bus, "jobs", "no-verb", Verify()):
                    pass
            except Unavailable:
                await asyncio.sleep(0.1)
            else:
                return
