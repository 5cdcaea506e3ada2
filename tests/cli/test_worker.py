"""`penstock worker`: which worker it runs, and how its processes are kept running and ended."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from penstock.client import Penstock
from support.command_line import CLEAN, PENSTOCK, penstock
from support.workers import ps, system

__all__ = ["ps", "system"]
MODULE = """
import os
from penstock.client import Worker
worker = Worker({url!r}, prefix={prefix!r}, durability="os", grace=2, lease=1)
not_one = 5
@worker.handler
async def who() -> list:
    return [os.getpid(), {version}]
"""
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def module(nats_url: str, prefix: str, tmp_path: Path) -> Callable[[int], None]:
    """Writes `jobs_here.py`, whose handler tells a version."""

    def write(version: int) -> None:
        text = MODULE.format(url=nats_url, prefix=prefix, version=version)
        (tmp_path / "jobs_here.py").write_text(text)

    write(1)
    return write


@pytest.fixture
def start(tmp_path: Path, module: Callable[[int], None]) -> Iterator[Start]:
    """Starts the command in its directory."""
    running: list[subprocess.Popen[bytes]] = []

    def begin(*arguments: str) -> subprocess.Popen[bytes]:
        command = [*PENSTOCK, "worker", "jobs_here:worker", *arguments]
        running.append(subprocess.Popen(command, cwd=tmp_path, env=CLEAN))
        return running[-1]

    yield begin
    for process in running:
        if process.poll() is None:
            process.terminate()
            process.wait(20)


async def who(ps: Penstock, queue: str = "default") -> tuple[int, int]:
    job = await ps.jobs.enqueue("who", queue=queue)
    pid, version = await ps.jobs.result(job.id, timeout=30)
    return pid, version


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("jobs_here", "write module:attribute"),
        ("nowhere:worker", "There is no module 'nowhere'"),
        ("jobs_here:missing", "has no 'missing'"),
        ("jobs_here:not_one", "is no Worker but of type int"),
    ],
)
def test_what_is_no_worker_is_refused_in_one_sentence(
    target: str, says: str, module: Callable[[int], None], tmp_path: Path
) -> None:
    done = penstock("worker", target, directory=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("penstock: ")
    assert says in done.stderr


async def test_a_worker_is_run_on_the_queues_that_are_named_until_it_is_told_to_end(
    ps: Penstock, start: Start
) -> None:
    process = start("--queues", "a, b", "--concurrency", "3")
    assert await who(ps, "b") == (process.pid, 1)
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 20) == 0


async def test_a_process_that_dies_is_replaced_and_all_end_together(
    ps: Penstock, start: Start
) -> None:
    process = start("--processes", "2")
    first, _ = await who(ps)
    assert first != process.pid
    os.kill(first, signal.SIGKILL)
    seen: set[int] = set()
    async with asyncio.timeout(40):
        while len(seen - {first}) < 2:
            seen.add((await who(ps))[0])
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 20) == 0
    assert not any(map(runs, seen))


def runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_changed_code_is_run_anew(
    ps: Penstock, start: Start, module: Callable[[int], None]
) -> None:
    start("--reload")
    assert (await who(ps))[1] == 1
    module(22)
    async with asyncio.timeout(40):
        while (await who(ps))[1] != 22:
            await asyncio.sleep(0.05)
