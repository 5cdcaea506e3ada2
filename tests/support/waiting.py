"""Waits for what comes by itself, such as a view that has folded what was just written.

However long that takes on a slow machine: it costs nothing where it is there at once.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from penstock.client import Penstock
from penstock.infra.event_log import JetStreamEventLog

SURELY = 60.0  # seconds
AGAIN = 0.01  # seconds until it is looked at again
T = TypeVar("T")
E = TypeVar("E", bound=Exception)


async def up_to_date(ps: Penstock, service: str = "jobs") -> None:
    """Have what `ps` reads from now on reflect all that is stored: others wrote some of it."""
    log = JetStreamEventLog(ps.session.bus, service)
    ps.session.wrote(service, await log.last_sequence())


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
