"""Many dead jobs redriven or discarded: page by page, many commands on their way at a time.

Never more than what is on its way is held. Interrupted, it is begun again: what is done already is
no longer among the dead.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar

import msgspec

from penstock.client.session import Session, state_of
from penstock.contracts.errors import NotFound, Timeout
from penstock.contracts.job_reads import ListDead
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import SERVICE
from penstock.contracts.jobs_bulk import (
    MOST,
    Changed,
    ChangedJobs,
    DiscardJobs,
    JobAt,
    RedriveJobs,
)

PAGE = 100
IN_FLIGHT = 4  # commands
TRIES = 3  # of a command whose outcome did not come in time
ASKED = 6  # times that a page is asked for
KEPT = 64  # of those that were refused
T = TypeVar("T")
Command = type[RedriveJobs] | type[DiscardJobs]


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """How many dead jobs were `done` with; `left` has the first of the `refused`, with why."""

    done: int
    refused: int = 0
    left: dict[str, str] = {}


async def dead(session: Session, question: ListDead) -> AsyncIterator[JobState]:
    """Every job that is dead when the search comes to it, newest first."""
    question = msgspec.structs.replace(question, limit=PAGE)
    while True:
        page = await _page(session, "dead", question, list[JobState])
        for job in page:
            yield job
        if not page:
            return
        question = msgspec.structs.replace(question, before=page[-1].id)


async def settle_all(
    session: Session,
    question: ListDead,
    kind: Command,
    reason: str | None,
    told: Callable[[int], object] = lambda _: None,
) -> Settled:
    """Settle each dead job. `told` is called with how many were done, now and then.

    A job that others changed meanwhile is left to them. Raises Unavailable or Timeout.
    """
    tally = _Tally(told)
    on_their_way: set[asyncio.Task[None]] = set()
    try:
        async for jobs in _pages(session, question, tally):
            sent = _send(session, kind(jobs=tuple(jobs), reason=reason), tally)
            on_their_way.add(asyncio.create_task(sent, name="settle-dead"))
            if len(on_their_way) == IN_FLIGHT:
                on_their_way = await _first_ended(on_their_way)
        while on_their_way:
            on_their_way = await _first_ended(on_their_way)
    finally:
        for task in on_their_way:
            task.cancel()
        await asyncio.gather(*on_their_way, return_exceptions=True)
    return Settled(done=tally.done, refused=tally.refused, left=tally.left)


class _Tally:
    """What became of those that were answered."""

    def __init__(self, told: Callable[[int], object]) -> None:
        self.done = self.refused = 0
        self.left: dict[str, str] = {}
        self._told = told

    def begin_again(self) -> None:
        """Those that were refused are met again; those that are done are not."""
        self.refused = 0
        self.left.clear()

    def add(self, jobs: Sequence[Changed]) -> None:
        for job in jobs:
            if job.problem is None:
                self.done += 1
                continue
            self.refused += 1
            if len(self.left) < KEPT:
                self.left[job.id] = job.problem.detail
        self._told(self.done)


async def _pages(session: Session, question: ListDead, tally: _Tally) -> AsyncIterator[list[JobAt]]:
    first = question = msgspec.structs.replace(question, limit=MOST, newest=True)
    while True:
        try:
            page = await _page(session, "dead-at", question, list[JobAt])
        except NotFound:  # the last one was erased or archived meanwhile
            tally.begin_again()
            question = first
            continue
        if page:
            yield page
        if len(page) < MOST:
            return
        question = msgspec.structs.replace(question, newest=False, before=page[-1].id)


async def _page(session: Session, name: str, question: ListDead, returns: type[T]) -> T:
    """One page; asked for again while the view is behind, or whoever was to answer has died."""
    for left in reversed(range(ASKED)):
        try:
            page, _ = await session.ask(SERVICE, name, question, returns)
        except Timeout:
            if not left:
                raise
        else:
            break
    return page


async def _send(session: Session, command: RedriveJobs | DiscardJobs, tally: _Tally) -> None:
    """Have one command carried out; if its outcome does not come, ask for it again by its id."""
    id = uuid.uuid4().hex
    for left in reversed(range(TRIES)):
        try:
            outcome = await session.command(command, id=id, command_id=id)
        except Timeout:
            if not left:
                raise
        else:
            tally.add(state_of(outcome, ChangedJobs).jobs)
            return


async def _first_ended(tasks: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    """Wait for one of them; the others. Raises its error."""
    ended, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in ended:
        task.result()
    return others
