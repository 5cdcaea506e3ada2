"""Handlers that can be imported by a process of the process lane."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

from penstock.client import Handlers, JobContext, RetryPolicy, discard
from penstock.contracts.errors import NotFound, PenstockError

handlers = Handlers()


@handlers.register_handler("pid", lane="process")
def pid() -> int:
    """The process it runs in."""
    return os.getpid()


@handlers.register_handler("raises", lane="process", retry=RetryPolicy({KeyError: discard()}))
def raises() -> None:
    """Fail in a way that the policy knows."""
    raise KeyError("gone")


@handlers.register_handler("dies", lane="process")
def dies(directory: str) -> str:
    """Be killed the first time."""
    flag = Path(directory) / "died"
    if not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


@handlers.register_handler("tells", lane="process")
def tells(ctx: JobContext) -> Any:
    """Use what crosses."""
    ctx.log("from afar")
    ctx.run(ctx.save_checkpoint({"at": 1}))
    return [ctx.id, ctx.attempt, ctx.checkpoint]


@handlers.register_handler("enqueues", lane="process")
def enqueues(ctx: JobContext) -> Any:
    """Have children, tried twice; what cannot be is told as in the other lanes."""
    ctx.heartbeat()
    children = [ctx.run(ctx.enqueue("pid", tags=["child"])).id for _ in range(2)]
    if ctx.attempt == 1:
        raise ValueError("again")
    return [children, *(_told(ctx, **wrong) for wrong in ({"queue": ""}, {"odd": 1}))]


def _told(ctx: JobContext, **wrong: Any) -> str:
    try:
        ctx.run(ctx.enqueue("pid", **wrong))
    except (PenstockError, TypeError) as error:
        return type(error).__name__
    return "nothing"


@handlers.register_handler("misuses", lane="process")
async def misuses(ctx: JobContext) -> list[str]:
    """Do what cannot be done here; the child that is awaited is made."""
    try:
        ctx.run(ctx.enqueue("pid"))
    except RuntimeError as error:
        return [str(error), (await ctx.enqueue("pid")).id]
    return []


@handlers.register_handler("uses client", lane="process")
def uses_client(ctx: JobContext) -> list[Any]:
    """Use the client of the context."""
    job = ctx.run(ctx.ps.jobs.enqueue("pid", id=f"{ctx.id}.own"))
    try:
        ctx.run(ctx.ps.jobs.get("none"))
    except NotFound as error:
        return [os.getpid(), job.id, str(error)]
    return []


@handlers.register_handler("awaits client", lane="process")
async def awaits_client(ctx: JobContext) -> list[Any]:
    """The same in an async handler, where many calls are made at once."""
    ids = (f"{ctx.id}.{n}" for n in range(5))
    jobs = await asyncio.gather(*(ctx.ps.jobs.enqueue("pid", id=id) for id in ids))
    async for state in ctx.ps.jobs.watch(ctx.id):
        return [os.getpid(), state.state, *(job.id for job in jobs)]
    return []


@handlers.register_handler("cleans up", lane="process")
async def cleans_up(directory: str) -> None:
    """Sleep until cancelled, and say so."""
    here = Path(directory)
    (here / "pid").write_text(str(os.getpid()))
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        (here / "cleaned").touch()
        raise


@handlers.register_handler("sleeps", lane="process")
def sleeps(directory: str, *, stubborn: bool = False) -> None:
    """Sleep until told to stop, or until killed."""
    here = Path(directory)
    if stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (here / "pid").write_text(str(os.getpid()))
    try:
        time.sleep(60)
    finally:
        (here / "cleaned").touch()


@handlers.register_handler("large", lane="process")
def large(size: int) -> str:
    """A large result."""
    return "x" * size
