"""Waits for what comes by itself, such as a view that has folded what was just written.

However long that takes on a slow machine: it costs nothing where it is there at once.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

SURELY = 60.0  # seconds
AGAIN = 0.01  # seconds until it is looked at again
T = TypeVar("T")
E = TypeVar("E", bound=Exception)


async def until(look: Callable[[], T | Awaitable[T]], *, within: float = SURELY) -> T:
    """What `look` gives as soon as it is true. Raises TimeoutError after `within` seconds."""
    async with asyncio.timeout(within):
        while True:
            found = look()
            value: Any = await found if inspect.isawaitable(found) else found
            if value:
                return value  # type: ignore[no-any-return]
            await asyncio.sleep(AGAIN)


async def until_raised(error: type[E], call: Callable[[], Awaitable[object]]) -> E:
    """The `error` that `call` comes to raise. Raises any other, and TimeoutError."""
    async with asyncio.timeout(SURELY):
        while True:
            try:
                await call()
            except error as raised:
                return raised
            await asyncio.sleep(AGAIN)
