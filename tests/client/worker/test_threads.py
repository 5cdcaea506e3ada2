"""Threads for handlers that block: bounded, reused, with the caller's context."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextvars import ContextVar

import pytest

from penstock.client.worker.threads import Threads

flow: ContextVar[str] = ContextVar("flow")


@pytest.fixture
def threads() -> Iterator[Threads]:
    threads = Threads(2, "t")
    yield threads
    threads.stop()


async def test_calls_run_beside_the_loop_in_at_most_so_many_threads(threads: Threads) -> None:
    both = threading.Barrier(2)

    def meet() -> str:
        both.wait(5)
        return threading.current_thread().name

    names = await asyncio.gather(*(threads.run(meet) for _ in range(6)))
    assert set(names) == {"t-1", "t-2"}


async def test_an_idle_thread_is_used_again(threads: Threads) -> None:
    names = [await threads.run(lambda: threading.current_thread().name) for _ in range(3)]
    assert names == ["t-1"] * 3


async def test_the_callers_context_goes_along(threads: Threads) -> None:
    flow.set("f-1")
    assert await threads.run(flow.get) == "f-1"


async def test_a_cancelled_caller_does_not_wait_and_loses_no_thread(threads: Threads) -> None:
    begun, let_go = threading.Event(), threading.Event()

    def block() -> None:
        begun.set()
        let_go.wait(5)

    call = asyncio.create_task(threads.run(block))
    while not begun.is_set():
        await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await threads.run(lambda: 1) == 1
    let_go.set()
    assert await threads.run(lambda: 2) == 2


def test_threads_do_not_keep_the_process_alive() -> None:
    async def leave_one_behind() -> None:
        call = asyncio.create_task(Threads(1, "stuck").run(lambda: threading.Event().wait(30)))
        while not any(t.name == "stuck-1" for t in threading.enumerate()):
            await asyncio.sleep(0.01)
        call.cancel()

    asyncio.run(leave_one_behind())
    stuck = [t for t in threading.enumerate() if t.name == "stuck-1"]
    assert [t.daemon for t in stuck] == [True]
