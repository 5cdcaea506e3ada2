"""Does something for each of many numbers, some at a time. Never knows what."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

AT_ONCE = 64


async def each(
    numbers: Iterable[int], do: Callable[[int], Awaitable[None]], at_once: int = AT_ONCE
) -> None:
    """Do it for every number, some at a time. Raises the first error, with the rest given up."""
    waiting = iter(numbers)

    async def work() -> None:
        for number in waiting:
            await do(number)

    workers = [asyncio.create_task(work()) for _ in range(at_once)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
