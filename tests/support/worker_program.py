"""A worker in a process of its own, to be killed, stopped or drained: URL PREFIX DIRECTORY GRACE.

Its handlers tell how far they got in the file `said`, and wait for a file `go`, both in DIRECTORY.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from pathlib import Path

from penstock.client import JobContext, Worker

url, prefix, directory, grace = sys.argv[1:5]
here = Path(directory)
name = f"p{os.getpid()}"
worker = Worker(url, prefix=prefix, lease=1, grace=float(grace), name=name, durability="os")


def say(what: str) -> None:
    """Append a line to the file `said`."""
    with (here / "said").open("a") as file:
        file.write(f"{what}\n")


def may_go() -> bool:
    """Whether the test lets the handlers end."""
    return (here / "go").exists()


@worker.register_handler("wait")
async def wait(ctx: JobContext) -> str:
    """Return once there is a file `go`."""
    say(f"begun {ctx.attempt} by {name}")
    while not may_go():
        await asyncio.sleep(0.02)
    return name


@worker.register_handler("stubborn")
def wait_in_a_thread(ctx: JobContext) -> str:
    """The same in a thread, whatever happens."""
    say(f"begun {ctx.attempt} by {name}")
    while not may_go():
        time.sleep(0.02)
    return name


@worker.register_handler("apart", lane="process")
def wait_in_a_process(ctx: JobContext) -> str:
    """The same in a process of its own; says so too when it is told to end."""
    say(f"begun {ctx.attempt} in {name}")
    try:
        while not may_go():
            time.sleep(0.02)
    except SystemExit:
        say(f"told to end in {name}")
        raise
    return name


@worker.register_handler("block")
async def block_the_loop(seconds: float) -> str:
    """Let nothing else run on the event loop meanwhile."""
    time.sleep(seconds)  # noqa: ASYNC251 - that is the point
    return name


@worker.register_handler("brief")
async def brief(n: int) -> int:
    """End soon."""
    await asyncio.sleep(0.01)
    return n


logging.basicConfig(level="INFO", stream=sys.stderr)
worker.run()
