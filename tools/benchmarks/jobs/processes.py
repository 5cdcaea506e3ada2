"""Programs in processes of their own, with the memory that they take. Measures nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

READY = 60.0  # seconds to get ready
END = 30.0  # seconds to end by itself
MEGABYTE = 1024 * 1024


def resident(pid: int) -> float:
    """The resident memory of a process, in MB; 0 once it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / MEGABYTE


def processor(pid: int) -> float:
    """The seconds of processor time that a process has taken; 0 once it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Program:
    """A running program, which says what it has to say in lines."""

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process

    async def said(self, timeout: float) -> str:
        """Its next line. Raises TimeoutError, or RuntimeError if it ended."""
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), timeout)
        if not line:
            raise RuntimeError(f"{self.name} ended: {await self._process.wait()}")
        return line.decode().strip()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    @property
    def memory(self) -> float:
        """Its resident memory now, in MB; 0 once it has ended."""
        return resident(self.pid)

    @property
    def cpu(self) -> float:
        """The seconds of processor time that it has taken; 0 once it has ended."""
        return processor(self.pid)

    async def end(self) -> None:
        """Have it end, and kill it if it does not."""
        if self._process.returncode is None:
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), END)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def program(command: Sequence[str], name: str) -> AsyncIterator[Program]:
    """A program that has said "ready", for as long as the block lasts."""
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    running = Program(process, name)
    try:
        said = await running.said(READY)
        if said != "ready":
            raise RuntimeError(f"{name} is not ready but says {said!r}")
        yield running
    finally:
        await running.end()


def ours(role: str, *arguments: object) -> list[str]:
    """The command line of one of our own programs; see `programs`."""
    module = "benchmarks.jobs.programs"
    return [sys.executable, "-W", "ignore", "-m", module, role, *map(str, arguments)]
