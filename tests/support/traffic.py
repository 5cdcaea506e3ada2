"""Traffic on all six services by several callers, that remembers what was acknowledged and when."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count

import msgspec

from penstock.client import Penstock, Worker
from penstock.contracts.exports import Document, Segment
from penstock.contracts.jobs import Backoff
from penstock.contracts.notifications import inbox_of
from penstock.contracts.search import SearchDocument

CALLERS = 2


class Sent(msgspec.Struct, frozen=True):
    """A command that was acknowledged at `time.time()` `at`."""

    service: str
    id: str
    command_id: str
    at: float


class Traffic:
    """`sent` and the ids of `changes` grow until the block of `running` ends."""

    def __init__(self, ps: Penstock) -> None:
        self.sent: list[Sent] = []
        self.changes: list[tuple[str, float]] = []
        self._ps = ps
        self._numbers = count()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Traffic goes on while the block runs; what is under way at its end is waited for."""
        stop = asyncio.Event()
        kinds = (self._progress, self._jobs, self._notify, self._export, self._search, self._change)

        async def repeat(one: Callable[[int], Awaitable[None]]) -> None:
            while not stop.is_set():
                await one(next(self._numbers))

        tasks = [asyncio.create_task(repeat(kind)) for kind in kinds * CALLERS]
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(*tasks)

    async def again(self, sent: Sent) -> None:
        """Send the very same command once more."""
        number = int(sent.id.rpartition("-")[2])
        match sent.service:
            case "progress":
                await self._ps.progress.create(sent.id, command_id=sent.command_id)
            case "jobs":
                await self._enqueue(number)
            case "notifications":
                await self._ps.notifications.send(f"u-{number}", {"n": number}, id=f"n-{number}")
            case "exports":
                await self._ps.exports.export("talk", str(number), "txt", id=sent.id)
            case _:
                await self._ps.search.index(document(number), command_id=sent.command_id)

    def _note(self, service: str, id: str, command_id: str) -> None:
        self.sent.append(Sent(service, id, command_id, time.time()))

    async def _progress(self, number: int) -> None:
        id, progress = f"p-{number}", self._ps.progress
        await progress.create(id, command_id=f"{id}:create")
        self._note("progress", id, f"{id}:create")
        await progress.update(id, 40.0)
        if number % 2:
            await progress.complete(id)

    async def _jobs(self, number: int) -> None:
        await self._enqueue(number)
        self._note("jobs", f"j-{number}", f"j-{number}:enqueue")
        await asyncio.sleep(0.01)

    async def _enqueue(self, number: int) -> None:
        name = ("quick", "slow", "fails-once")[number % 3]
        await self._ps.jobs.enqueue(
            name,
            {"id": f"j-{number}"},
            id=f"j-{number}",
            delay=1.0 if number % 5 == 0 else 0.0,
            max_attempts=20,
            backoff=Backoff(initial=0.5, maximum=0.5),
            command_id=f"j-{number}:enqueue",
        )

    async def _notify(self, number: int) -> None:
        receipt = await self._ps.notifications.send(f"u-{number}", {"n": number}, id=f"n-{number}")
        assert receipt.sequence
        self._note("notifications", inbox_of(f"u-{number}"), "")
        await asyncio.sleep(0.005)

    async def _export(self, number: int) -> None:
        text = Segment(text=f"passage {number} " * 200)
        await self._ps.exports.put("talk", str(number), Document(title="T", segments=(text,)))
        await self._ps.exports.export("talk", str(number), "txt", id=f"e-{number}")
        self._note("exports", f"e-{number}", "")

    async def _search(self, number: int) -> None:
        id = f"d-{number}"
        await self._ps.search.index(document(number), command_id=f"{id}:index")
        self._note("search", id, f"{id}:index")
        await asyncio.sleep(0.01)

    async def _change(self, number: int) -> None:
        await self._ps.changes.publish("user", str(number % 7), change_id=f"c-{number}")
        self.changes.append((f"c-{number}", time.time()))
        await self._ps.cache.get_or_set(f"user-{number}", lambda: number, tags=[f"tag-{number}"])
        await self._ps.cache.invalidate([f"tag-{number}"])
        self._note("cache", f"tag-{number}", "")
        await asyncio.sleep(0.02)


def document(number: int) -> SearchDocument:
    """A document that is found."""
    return SearchDocument(id=f"d-{number}", content=f"harvest {number}")


def worker(url: str, calls: Counter[str], *, prefix: str = "penstock") -> Worker:
    """A worker of the jobs of this traffic; `calls` counts those that came to their end."""
    made = Worker(url, prefix=prefix, durability="os", grace=0.2, lease=2.0, concurrency=20)

    @made.register_handler("quick")
    async def quick(id: str) -> None:
        calls[id] += 1

    @made.register_handler("slow")
    async def slow(id: str) -> None:
        await asyncio.sleep(0.3)
        calls[id] += 1

    failed: set[str] = set()

    @made.register_handler("fails-once")
    async def fails_once(id: str) -> None:
        if id not in failed:
            failed.add(id)
            raise RuntimeError("once")
        calls[id] += 1

    return made
