"""A worker in a process of its own, to be killed: URL NAME LEASE. What it keeps is in the log."""

from __future__ import annotations

import asyncio
import os
import random
import sys

from penstock.client import JobContext, Worker

CONCURRENCY = 20
LONGEST = 0.05  # seconds that a job takes, at most

if __name__ == "__main__":
    url, name, lease = sys.argv[1:4]
    pid = os.getpid()
    worker = Worker(
        url,
        name=f"{name}:{pid}",
        lease=float(lease),
        concurrency=CONCURRENCY,
        durability="os" if pid % 2 else "fsync",  # both ways of storing, side by side
    )

    @worker.register_handler("square")
    async def square(n: int, flaky: bool, ctx: JobContext) -> int:
        """The square of `n`, but not in the first attempt if it is `flaky`."""
        await asyncio.sleep(random.uniform(0, LONGEST))
        if flaky and ctx.attempt == 1:
            raise ConnectionError("The first attempt fails.")
        return n * n

    @worker.register_handler("hold")
    async def hold() -> None:
        """Go on until the worker is killed."""
        await asyncio.sleep(600)

    worker.run()
