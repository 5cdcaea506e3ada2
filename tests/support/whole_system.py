"""All six services, a worker, an SDK client and a socket: and a probe of each way through them.

A probe does something new and returns once it has come out at the other end.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

from penstock.cli.builders import builders
from penstock.client import Penstock, Worker
from penstock.contracts.cache import TagState
from penstock.contracts.control import Report
from penstock.contracts.errors import Unavailable
from penstock.contracts.exports import Document, Segment
from penstock.contracts.jobs import PRIORITIES
from penstock.contracts.search import SearchDocument
from penstock.contracts.subjects import SERVICES
from penstock.infra.control import ask_all
from penstock.infra.host import Host
from penstock.infra.testing import running_system

Probe = Callable[[], Awaitable[None]]
QUEUE = "default"


class WholeSystem:
    """What runs, and the probes by the name of what they go through."""

    def __init__(self, host: Host, ps: Penstock) -> None:
        self.host = host
        self.ps = ps
        self._numbers = itertools.count()
        self._received: asyncio.Queue[str] = asyncio.Queue()
        self._watched: asyncio.Queue[float] = asyncio.Queue()
        self.probes: dict[str, Probe] = {
            **{f"{name}-commands": getattr(self, f"_{name}") for name in SERVICES},
            **{f"{name}-view": self._view(name) for name in SERVICES},
            **{f"{name}-control": self._control(name) for name in SERVICES},
            **{f"{QUEUE}-{priority}": self._lane(priority) for priority in PRIORITIES},
            "cache-changes": self._change,
            "exports-renderer": self._export,
            "jobs-due": self._due,
            "progress-watch": self._watch,
            "socket": self._socket,
        }

    def new(self) -> str:
        """An id that was not used yet."""
        return f"id-{next(self._numbers)}"

    async def listen(self) -> None:
        """Read a socket and a watch from now on, for ever."""
        await asyncio.gather(self._listen(), self._follow_progress())

    async def ready(self) -> None:
        """Every probe comes through."""
        async with asyncio.timeout(30):
            await asyncio.gather(*(probe() for probe in self.probes.values()))

    # -- commands, which reach the view of their service ---------------------------------------

    async def _progress(self) -> None:
        await self.ps.progress.create(self.new())

    async def _notifications(self) -> None:
        await self.ps.notifications.send("nobody", {"title": "hello"})

    async def _jobs(self) -> None:
        await self.ps.jobs.enqueue("nothing", queue="unattended")

    async def _exports(self) -> None:
        await self.ps.exports.put("text", self.new(), Document(title="t", segments=()))

    async def _cache(self) -> None:
        await self.ps.cache.invalidate([self.new()])

    async def _search(self) -> None:
        await self.ps.search.index(SearchDocument(id=self.new(), content="word"))

    def _view(self, name: str) -> Probe:
        """What was written is read: the answer waits for the view, and is asked for over NATS."""

        async def probe() -> None:
            service = next(s for s in self.host.services if s.name == name)
            await self.probes[f"{name}-commands"]()
            await service.projector.reach_end()

        return probe

    # -- work --------------------------------------------------------------------------------

    def _lane(self, priority: int) -> Probe:
        async def probe() -> None:
            job = await self.ps.jobs.enqueue("echo", {"n": 1}, priority=priority)
            assert await self.ps.jobs.result(job.id, timeout=60) == 1

        return probe

    async def _due(self) -> None:
        job = await self.ps.jobs.enqueue("echo", {"n": 2}, delay=0.05)
        assert await self.ps.jobs.result(job.id, timeout=60) == 2

    async def _export(self) -> None:
        id = self.new()
        document = Document(title="t", segments=(Segment(text=id, start=0.0, end=1.0),))
        await self.ps.exports.put("text", id, document)
        await self.ps.exports.export("text", id, "txt", async_mode=False, timeout=60)

    async def _change(self) -> None:
        tag = self.new()
        await self.ps.changes.publish("thing", "1", tags=[tag])
        async with aclosing(self.ps.session.watch("cache", tag, TagState)) as states:  # type: ignore[type-var]
            async for _ in states:
                return

    # -- what comes by itself ----------------------------------------------------------------

    async def _socket(self) -> None:
        id = self.new()
        await self.ps.notifications.send("listener", {"title": id})
        while await self._received.get() != id:
            pass

    async def _watch(self) -> None:
        percent = float(next(self._numbers)) / 1000
        await self.ps.progress.update("watched", percent)
        while await self._watched.get() < percent:
            pass

    async def _listen(self) -> None:
        async for notification in self.ps.notifications.listen("listener", after=0):
            self._received.put_nowait(notification.content["title"])

    async def _follow_progress(self) -> None:
        async for state in self.ps.progress.watch("watched"):
            self._watched.put_nowait(state.percent)

    def _control(self, name: str) -> Probe:
        """A verb that it does not know is answered all the same."""

        async def probe() -> None:
            found: list[Report] = []
            while not found:
                try:
                    params = Document(title="t", segments=())
                    bus = self.ps.session.bus
                    found = [report async for report in ask_all(bus, name, "no-verb", params)]
                except Unavailable:  # it was asked before it listened again
                    continue

        return probe


@asynccontextmanager
async def whole_system(url: str, prefix: str, directory: Path) -> AsyncIterator[WholeSystem]:
    """Everything, and each probe has come through once."""
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(running_system(url, prefix, directory, builders()))
        worker = Worker(url, prefix=prefix, durability="os", concurrency=20)

        @worker.register_handler("echo")
        async def echo(n: int) -> int:
            return n

        await stack.enter_async_context(worker)
        ps = Penstock(url, prefix=prefix, http_url=host.http_url)
        system = WholeSystem(host, await stack.enter_async_context(ps))
        await ps.progress.create("watched")
        listening = asyncio.create_task(system.listen())
        stack.callback(listening.cancel)
        await system.ready()
        yield system
