"""The system in memory or a real one, for tests that say the same of both."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeVar

import pytest

from penstock.client import (
    Backoff,
    Discard,
    Handlers,
    JobContext,
    JobState,
    Penstock,
    PermanentFailure,
    Snooze,
    Worker,
)
from penstock.client.testing import TestSystem
from penstock.contracts.workflow_state import WorkflowState
from penstock.infra.host import Build
from penstock.infra.testing import running_system
from penstock.jobs.service import build as build_jobs
from penstock.progress.service import build as build_progress

T = TypeVar("T")
SOON = Backoff(initial=0.01, maximum=0.01)


def handlers() -> Handlers:
    """What the scenarios run; jobs count their attempts in a list of the handlers' own."""
    found, calls = Handlers(), list[str]()

    @found.handler
    async def greet(user: str) -> str:
        return f"hello {user}"

    @found.handler
    def flaky() -> str:
        calls.append("flaky")
        if calls.count("flaky") < 2:
            raise OSError("once")
        return "at last"

    @found.handler
    async def hopeless() -> None:
        raise OSError("always")

    @found.handler
    async def broken() -> None:
        raise PermanentFailure("never")

    @found.handler
    async def later(ctx: JobContext) -> int:
        calls.append("later")
        if calls.count("later") < 2:
            raise Snooze(0.01, "not yet")
        return ctx.attempt

    @found.handler
    async def useless() -> None:
        raise Discard("nothing to do")

    @found.handler
    def exits() -> None:
        raise SystemExit("no")

    @found.handler
    async def odd() -> object:
        return object()

    @found.handler
    async def parent(ctx: JobContext) -> str:
        ctx.progress(50, message="half")
        ctx.log("working")
        await ctx.save_checkpoint({"at": 1})
        child = await ctx.enqueue("greet", {"user": "bob"})
        return child.id

    @found.handler
    async def numbers(count: int) -> list[int]:
        return list(range(count))

    @found.handler
    async def double(x: int, index: int = 0) -> int:
        calls.append(f"double {x} {index}")
        return x * 2

    @found.register_handler("sum")
    async def total(xs: list[int]) -> dict[str, int]:
        return {"sum": sum(xs)}

    @found.handler
    async def called(what: str) -> int:
        return sum(call.startswith(what) for call in calls)

    return found


class Running:
    """A system and a way to wait in it."""

    def __init__(self, ps: Penstock) -> None:
        self.ps = ps

    async def until(self, id: str, reached: Callable[[JobState], bool]) -> JobState:
        """The job once it is so."""
        if isinstance(self.ps, TestSystem):
            await self.ps.advance(minutes=1)
            job = await self.ps.jobs.get(id)
            assert reached(job), job
            return job
        async with asyncio.timeout(60):
            async for job in self.ps.session.watch("jobs", id, JobState):
                if reached(job):
                    return job
        raise AssertionError("a watch has no end of its own")

    async def over(self, id: str) -> JobState:
        """The job at its end."""
        return await self.until(id, lambda job: job.is_over)

    async def all_over(self, *ids: str) -> list[JobState]:
        """Each job at its end."""
        return [await self.over(id) for id in ids]

    async def by_start(self, *ids: str) -> list[str]:
        """The jobs, once they are over, in the order in which they began."""
        await self.all_over(*ids)
        begun: dict[int, str] = {}
        for id in ids:
            history = await self.ps.jobs.history(id)
            begun |= {entry.sequence: id for entry in history if ".started." in entry.type}
        return [begun[sequence] for sequence in sorted(begun)]

    async def workflow(self, id: str) -> WorkflowState:
        """The workflow at its end."""
        if isinstance(self.ps, TestSystem):
            await self.ps.advance(minutes=1)
        async with asyncio.timeout(60):
            return [state async for state in self.ps.workflows.watch(id)][-1]

    async def seen(self, ask: Callable[[], Awaitable[T]], fits: Callable[[T], bool]) -> T:
        """What is answered once it is so; in memory, within a second or after it."""
        end = time.monotonic() + 15
        while not fits(answer := await ask()):
            assert time.monotonic() < end, answer
            if isinstance(self.ps, TestSystem):
                await self.ps.advance(seconds=1)
            else:
                await asyncio.sleep(0.02)
        return answer


@pytest.fixture(params=["memory", "real"])
async def running(
    request: pytest.FixtureRequest, nats_url: str, prefix: str, tmp_path: Path
) -> AsyncIterator[Running]:
    """Either system, with the handlers for the queue `default`."""
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            worker = Worker("memory")
            worker.include(handlers())
            yield Running(await stack.enter_async_context(TestSystem(worker)))
            return
        parts: dict[str, Build] = {"jobs": build_jobs, "progress": build_progress}
        await stack.enter_async_context(running_system(nats_url, prefix, tmp_path, parts))
        worker = Worker(nats_url, prefix=prefix, durability="os", grace=5.0)
        worker.include(handlers())
        ps = await stack.enter_async_context(Penstock(nats_url, prefix=prefix))
        await stack.enter_async_context(worker)
        yield Running(ps)
