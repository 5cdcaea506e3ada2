"""Many dead jobs redriven or discarded: page by page, many commands on their way at a time.

Never more than what is on its way is held. Interrupted, it is begun again: what is done already is
no longer among the dead.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec

from penstock.client.session import Session
from penstock.contracts.errors import Archived, Erased, NotFound, PenstockError, Refused
from penstock.contracts.job_reads import ListDead
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import SERVICE

PAGE = 1000
IN_FLIGHT = 64
Settle = Callable[[str], Awaitable[object]]


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """How many dead jobs were `done` with; `left` has the first of the `refused`, with why."""

    done: int
    refused: int = 0
    left: dict[str, str] = {}


async def dead(session: Session, question: ListDead) -> AsyncIterator[JobState]:
    """Every job that is dead when the search comes to it, newest first."""
    question = msgspec.structs.replace(question, limit=PAGE, wait=30.0)
    while True:
        page, _ = await session.ask(SERVICE, "dead", question, list[JobState])
        for job in page:
            yield job
        if len(page) < PAGE:
            return
        question = msgspec.structs.replace(question, before=page[-1].id)


async def settle_all(
    session: Session,
    question: ListDead,
    settle: Settle,
    told: Callable[[int], object] = lambda _: None,
) -> Settled:
    """Settle each dead job. `told` is called with how many were done, now and then.

    A job that others changed meanwhile is left to them. Raises Unavailable or Timeout.
    """
    done = refused = 0
    left: dict[str, str] = {}
    failed: list[PenstockError] = []
    free = asyncio.Semaphore(IN_FLIGHT)

    async def one(id: str) -> None:
        nonlocal done, refused
        try:
            await settle(id)
            done += 1
        except (NotFound, Refused, Archived, Erased) as error:
            refused += 1
            if len(left) < IN_FLIGHT:
                left[id] = str(error)
        except PenstockError as error:
            failed.append(error)
        finally:
            free.release()
        if done % PAGE == 0:
            told(done)

    async with asyncio.TaskGroup() as tasks:
        async for job in dead(session, question):
            await free.acquire()
            if failed:
                break
            tasks.create_task(one(job.id))
    if failed:
        raise failed[0]
    return Settled(done=done, refused=refused, left=left)
