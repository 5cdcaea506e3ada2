"""Clients that enqueue and cancel jobs under fire, each until it has its answer. Never judges."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from itertools import islice

from penstock.client import Penstock
from penstock.contracts.errors import Conflict, Refused, Unavailable
from penstock.contracts.jobs import CancelJob
from support.faults.job_plan import Asked

AGAIN = 0.05  # seconds until a client that was turned away tries again
LONGEST = 90.0  # seconds until a command must be answered
LANES = 40  # of which every second enqueues by the many
MANY = 25  # jobs at once


class Clients:
    """Enqueues `jobs`, at most `rate` a second, and cancels those that are to be."""

    def __init__(self, ps: Penstock, jobs: Sequence[Asked], rate: float) -> None:
        self.slowest = 0.0  # seconds until a command was answered
        self.resent = 0
        self.known = 0
        self._ps = ps
        self._rate = rate
        self._left: Iterator[Asked] = iter(jobs)

    async def run(self) -> None:
        """Return when every job is there and every cancellation answered."""
        self._began = time.monotonic()
        async with asyncio.TaskGroup() as lanes:
            for lane in range(LANES):
                lanes.create_task(self._many() if lane % 2 else self._one_by_one())

    async def _one_by_one(self) -> None:
        for asked in self._left:
            await self._turn(asked)
            await self._until_answered(partial(self._enqueue, asked))
            await self._there([asked])

    async def _many(self) -> None:
        while jobs := list(islice(self._left, MANY)):
            await self._turn(jobs[-1])
            await self._until_answered(partial(self._enqueue_many, jobs))
            await self._there(jobs)

    async def _enqueue(self, asked: Asked) -> None:
        id = asked.id
        await self._ps.session.command(asked.command, id=id, command_id=f"{id}:enqueue")

    async def _enqueue_many(self, jobs: Sequence[Asked]) -> None:
        specs = [asked.spec for asked in jobs]
        name = f"from-{jobs[0].id}"
        became = [one async for one in self._ps.jobs.enqueue_many(specs, command_id=name)]
        wrong = [one for one in became if one.problem]
        assert [one.id for one in became] == [one.id for one in jobs]
        assert not wrong, wrong

    async def _there(self, jobs: Sequence[Asked]) -> None:
        for asked in jobs:
            asked.known = True
        self.known += len(jobs)
        await asyncio.gather(*(self._cancel(asked) for asked in jobs if asked.cancel))

    async def _cancel(self, asked: Asked) -> None:
        cancel = partial(
            self._ps.session.command,
            CancelJob(reason="changed my mind"),
            id=asked.id,
            command_id=f"{asked.id}:cancel",
        )
        try:
            await self._until_answered(cancel)
        except Refused:
            asked.told = "refused"
        else:
            asked.told = "cancelled"

    async def _turn(self, asked: Asked) -> None:
        await asyncio.sleep(self._began + asked.number / self._rate - time.monotonic())

    async def _until_answered(self, send: Callable[[], Awaitable[object]]) -> None:
        began = time.monotonic()
        while not await self._answered(send):
            if time.monotonic() > began + LONGEST:
                raise AssertionError(f"There was no answer in {LONGEST:g} s.")
            self.resent += 1
            await asyncio.sleep(AGAIN)
        self.slowest = max(self.slowest, time.monotonic() - began)

    async def _answered(self, send: Callable[[], Awaitable[object]]) -> bool:
        try:
            await send()
        except (Unavailable, Conflict):
            return False
        return True
