"""The processes of a system of jobs: `service`, `worker`, and `client`s that enqueue.

Each says "ready" and then what it has to say, and ends by SIGTERM. Measures only its own work.
"""

from __future__ import annotations

import asyncio
import signal
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from penstock.client import JobSpec, Penstock, Worker
from penstock.infra.garbage import look_seldom
from penstock.infra.host import Host, wait_ready
from penstock.infra.settings import Settings
from penstock.jobs.service import build

CHUNK, IN_FLIGHT = 500, 4


def say(what: str) -> None:
    """Tell the process that began this one."""
    print(what, flush=True)


async def until_terminated() -> None:
    """Wait for SIGTERM."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()


async def service(url: str, directory: str, durability: Any) -> None:
    """The jobs service with its view, and nothing else."""
    settings = Settings(data=directory, http_port=0, durability=durability)
    host = Host(settings, url, {"jobs": build}, Path(directory) / "views")
    look_seldom()  # as `penstock serve` does
    try:
        await host.start()
        await wait_ready(host, 600)
        say("ready")
        await until_terminated()
    finally:
        await host.drain()


async def worker(url: str, durability: Any, concurrency: str) -> None:
    """One worker process with handlers that do nothing, say when they began, or take a while."""
    program = Worker(url, concurrency=int(concurrency), durability=durability, grace=1.0)

    @program.register_handler("noop")
    async def noop(n: int, text: str = "") -> int:
        return n

    @program.register_handler("takes")
    async def takes(seconds: float) -> None:
        await asyncio.sleep(seconds)

    @program.register_handler("ignore")
    async def ignore(n: Any) -> None:
        """Whatever it is given."""

    @program.register_handler("now")
    async def now() -> None:
        say(f"began {time.time()}")

    @program.register_handler("long")
    async def long() -> None:
        say(f"began {time.time()}")
        await asyncio.sleep(3600)

    late: list[float] = []

    @program.register_handler("due")
    async def due(at: float, of: int) -> None:
        late.append(time.time() - at)
        if len(late) == of:
            say(_percentiles(late))
            late.clear()

    look_seldom()  # as `run` does
    async with program:
        say("ready")
        await until_terminated()


def _percentiles(late: list[float]) -> str:
    """As JSON, in seconds."""
    hundredths = statistics.quantiles(late, n=100, method="inclusive")
    told = {"p50": hundredths[49], "p99": hundredths[98], "most": max(late)}
    return msgspec.json.encode(told).decode()


def jobs(count: int, payload: int) -> Iterator[JobSpec]:
    """No-op jobs."""
    text = "x" * max(0, payload - 20)
    return (JobSpec(name="noop", payload={"n": n, "text": text}) for n in range(count))


async def many(ps: Penstock, count: int, payload: int) -> None:
    """Enqueue by `enqueue_many`."""
    stream = ps.jobs.enqueue_many(jobs(count, payload), chunk=CHUNK, in_flight=IN_FLIGHT)
    async for job in stream:
        if job.problem is not None:
            raise RuntimeError(job.problem.detail)


async def singly(ps: Penstock, count: int, payload: int, callers: int = 256) -> None:
    """Enqueue one by one, by so many callers at a time who each wait for the outcome."""
    left = jobs(count, payload)

    async def caller() -> None:
        for job in left:
            await ps.jobs.enqueue(job.name, job.payload)

    await asyncio.gather(*(caller() for _ in range(callers)))


HOW: dict[str, Callable[..., Awaitable[None]]] = {"many": many, "singly": singly}


async def client(url: str, how: str, count: str, payload: str, callers: str = "256") -> None:
    """Enqueue, and say how many a second."""
    more = {"callers": int(callers)} if how == "singly" else {}
    async with Penstock(url, timeout=60) as ps:
        await HOW[how](ps, min(500, int(count)), int(payload), **more)  # warm
        say("ready")
        started = time.perf_counter()
        await HOW[how](ps, int(count), int(payload), **more)
        say(str(int(count) / (time.perf_counter() - started)))
        await until_terminated()


ROLES: dict[str, Callable[..., Any]] = {"service": service, "worker": worker, "client": client}

if __name__ == "__main__":
    asyncio.run(ROLES[sys.argv[1]](*sys.argv[2:]))
