"""Handlers that can be imported by a process of the process lane."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from penstock.client import Handlers, JobContext, RetryPolicy, discard
from penstock.contracts.errors import PenstockError

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
    said = []
    for misuse in (lambda: ctx.ps, lambda: ctx.run(ctx.enqueue("pid"))):
        try:
            misuse()
        except (AttributeError, RuntimeError) as error:
            said.append(str(error))
    return [*said, (await ctx.enqueue("pid")).id]


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
