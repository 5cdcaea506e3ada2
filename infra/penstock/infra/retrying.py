"""Tries again what the system cannot do for now, until a deadline. Never what it refuses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from penstock.contracts.errors import Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")
PAUSE = 0.1  # seconds between two attempts


async def until_available(attempt: Callable[[], Awaitable[T]], what: str, *, within: float) -> T:
    """The result of `attempt`, as soon as it does not raise Unavailable any more.

    Begins no attempt later than `within` seconds. Raises Unavailable then, anything else at once.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    waiting = False
    while True:
        try:
            return await attempt()
        except Unavailable as error:
            if loop.time() + PAUSE > deadline:
                raise
            if not waiting:
                log.info("%s waits: %s", what, error)
                waiting = True
        await asyncio.sleep(PAUSE)
