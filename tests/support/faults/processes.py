"""The parts of a running system as processes of their own, each killed by itself and back at once.

Starts and kills; never judges. What was started ends with `System.close`, whatever happened.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from penstock.infra.nats_server import guard
from penstock.infra.nats_server.configuration import Durability, Files
from penstock.infra.nats_server.launcher import Launcher, Run
from support.command_line import CLEAN, PENSTOCK

WORKER = Path(__file__).parents[1] / "worker_program.py"
# Two instances of each service: one of them shares its process with others than the other.
INSTANCES = {
    "east": ("progress", "notifications", "search"),
    "west": ("jobs", "exports", "cache"),
    "both": ("progress", "notifications", "jobs", "exports", "cache", "search"),
}
TRY_AGAIN = 0.1  # seconds until a process that ended by itself is started again
# Ends a program when this process has ended, in whatever way.
GUARD = [sys.executable, "-I", "-S", guard.__file__, str(os.getpid()), "1"]
READY = 60.0  # seconds until a process must be ready


class Restarted:
    """A program that is started again whenever it ends, as a service manager does."""

    def __init__(
        self, name: str, command: Sequence[str], env: Mapping[str, str], log: Path
    ) -> None:
        self.name = name
        self.given_up = 0  # ended though nobody killed it
        self._command = command
        self._env = env
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._killed = self._closed = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._keep(), name=f"keep-{self.name}")

    async def kill(self) -> None:
        """SIGKILL, whatever it is doing: starting, too."""
        self._killed = True
        self._end()

    async def close(self) -> None:
        """Kill it for good."""
        self._closed = True
        self._end()
        if self._task:
            await self._task

    def check(self) -> None:
        """Raises what keeps it from being started."""
        if self._task and self._task.done():
            self._task.result()

    def _end(self) -> None:
        # Not waited for yet, so that its id cannot have been given to another process. Its group
        # has the guard and the program, and whatever that started.
        if self._process and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _keep(self) -> None:
        while not self._closed:
            process = await self._spawn()
            await process.wait()
            if not (self._killed or self._closed):
                self.given_up += 1
                await asyncio.sleep(TRY_AGAIN)

    async def _spawn(self) -> asyncio.subprocess.Process:
        self._killed = False
        with self._log.open("a") as log:
            self._process = await asyncio.create_subprocess_exec(
                *GUARD,
                *self._command,
                env=self._env,
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if self._closed or self._killed:
            self._end()
        return self._process


class KilledNats:
    """A nats-server on one port that is launched again whenever it was killed."""

    name = "nats-server"

    def __init__(self, directory: Path, durability: Durability) -> None:
        directory.mkdir(mode=0o700)
        self._launcher = Launcher(
            files=Files(directory.absolute()),
            durability=durability,
            binary=None,
            start_timeout=READY,
            grace=5.0,
        )
        self._run: Run | None = None
        self._pid: int | None = None  # while it runs and was not killed
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        assert self._run is not None
        return self._run.url

    async def start(self) -> None:
        await self._launch(_free_port())
        self._task = asyncio.create_task(self._keep(), name="keep-nats")

    async def kill(self) -> None:
        """SIGKILL, unless it is being launched."""
        pid, self._pid = self._pid, None
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

    def check(self) -> None:
        """Raises what keeps it from being launched."""
        if self._task and self._task.done():
            self._task.result()

    async def close(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._run:
            await self._run.process.stop()

    async def _keep(self) -> None:
        while self._run:
            await self._run.process.wait()
            self._pid = None
            await self._launch(self._run.port)

    async def _launch(self, port: int) -> None:
        self._run = await self._launcher.launch(port)
        self._pid = self._run.pid


class System:
    """A nats-server, three processes with two instances of each service, and a worker."""

    def __init__(self, directory: Path, durability: Durability) -> None:
        self.directory = directory
        self.durability = durability
        self.kills: Counter[str] = Counter()
        self.nats = KilledNats(directory / "nats", durability)
        self._programs: dict[str, Restarted] = {}

    @property
    def url(self) -> str:
        return self.nats.url

    async def start(self) -> None:
        await self.nats.start()
        for name, services in INSTANCES.items():
            env = {
                **CLEAN,
                "PENSTOCK_NATS_URL": self.url,
                "PENSTOCK_DATA": str(self.directory / name),
                "PENSTOCK_HTTP_PORT": "0",
                "PENSTOCK_DURABILITY": self.durability,
            }
            self._add(name, [*PENSTOCK, "serve", *services], env)
        work = [str(WORKER), self.url, "penstock", str(self.directory), "5"]
        self._add("worker", [sys.executable, *work], CLEAN)
        for program in self._programs.values():
            await program.start()

    async def kill(self, victim: str) -> None:
        """Kill one by its name, or `all` at once."""
        self.kills[victim] += 1
        parts = self._parts()
        for part in parts.values() if victim == "all" else [parts[victim]]:
            await part.kill()

    def check(self) -> None:
        """Raises what keeps a part from being started again."""
        for part in self._parts().values():
            part.check()

    def _parts(self) -> dict[str, KilledNats | Restarted]:
        return {"nats": self.nats, **self._programs}

    async def close(self) -> None:
        closing = [program.close() for program in self._programs.values()]
        await asyncio.gather(*closing, return_exceptions=True)
        await self.nats.close()

    def instances(self, service: str) -> list[str]:
        """The names of the instances of a service."""
        return [name for name, services in INSTANCES.items() if service in services]

    def view(self, service: str, instance: str) -> Path | None:
        """The file of an instance's view, the latest if it made several; None before the first."""
        files = (self.directory / instance / "views").glob(f"{service}.*.sqlite")
        return max(files, key=lambda path: int(path.suffixes[0][1:]), default=None)

    @property
    def given_up(self) -> dict[str, int]:
        """How often each program ended though nobody killed it."""
        return {name: p.given_up for name, p in self._programs.items() if p.given_up}

    def logs(self) -> str:
        """The end of what each program had to say."""
        parts = [path for path in sorted(self.directory.glob("*.log")) if path.exists()]
        return "\n".join(f"== {path.name}\n{path.read_text()[-3000:]}" for path in parts)

    def _add(self, name: str, command: list[str], env: Mapping[str, str]) -> None:
        log = self.directory / f"{name}.log"
        self._programs[name] = Restarted(name, command, env, log)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
