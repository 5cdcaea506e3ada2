"""Other job systems, measured in the same run where they are installed.

Each module here besides this one is a program for the Python that has its library, and knows
nothing of Penstock: `MODULE enqueue|work URL COUNT` says how many jobs a second.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.jobs.figures import Figure
from benchmarks.jobs.system import system

HERE = Path(__file__).parent
# What each is called, its program, and whether it keeps jobs in Redis or in NATS.
PEERS = (
    ("Celery, 10 threads", "with_celery", "redis"),
    ("Dramatiq, 8 threads", "with_dramatiq", "redis"),
    ("SAQ", "with_saq", "redis"),
    ("ARQ", "with_arq", "redis"),
    ("Taskiq + Redis", "with_taskiq_redis", "redis"),
    ("taskiq-nats, no results", "with_taskiq_nats", "nats"),
)
NOT_INSTALLED = 3  # how a program ends whose library is not there
LONGEST = 180.0  # seconds
STARTED = 5.0  # seconds until Redis answers


async def peers(directory: Path, python: str, redis_server: str, jobs: int) -> list[Figure]:
    """Enqueueing and draining no-op jobs by each that is installed."""
    figures: list[Figure] = []
    if shutil.which(redis_server) is None:
        print(f"There is no {redis_server}: systems that keep jobs in Redis are skipped.")
    for name, module, store in PEERS:
        if store == "redis" and shutil.which(redis_server) is None:
            continue
        async with _store(directory, store, redis_server) as url:
            rates = [await _rate(python, module, what, url, jobs) for what in ("enqueue", "work")]
        if None in rates:
            print(f"{name} is not installed for {python}, or does not work: it is skipped.")
            continue
        what = ("enqueue, one client", f"drain, {jobs:,} jobs")
        figures += [
            Figure(what=did, system=name, value=rate, durability="os")
            for did, rate in zip(what, rates, strict=True)
            if rate is not None
        ]
    return figures


async def _rate(python: str, module: str, what: str, url: str, jobs: int) -> float | None:
    command = [python, str(HERE / f"{module}.py"), what, url, str(jobs)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), LONGEST)
    except TimeoutError:
        process.kill()
        await process.wait()
        return None
    words = said.decode().split()
    # Some libraries say other things as well, before it or behind it.
    rates = [word for word in words if word.replace(".", "", 1).isdigit()]
    return float(rates[-1]) if rates and process.returncode == 0 else None


@asynccontextmanager
async def _store(directory: Path, store: str, redis_server: str) -> AsyncIterator[str]:
    """An empty store of its own, which no longer runs behind the block."""
    if store == "nats":
        async with system(directory, "os") as there:
            yield there.url
        return
    with TemporaryDirectory(dir=directory) as here:
        socket = f"{here}/redis.sock"
        options = ["--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "yes"]
        process = await asyncio.create_subprocess_exec(
            redis_server, *options, "--dir", here, stdout=asyncio.subprocess.DEVNULL
        )
        try:
            await asyncio.wait_for(_answers(socket), STARTED)
            yield socket
        finally:
            process.terminate()
            await process.wait()


async def _answers(socket: str) -> None:
    while True:
        try:
            _, writer = await asyncio.open_unix_connection(socket)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return
