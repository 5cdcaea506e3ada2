"""Asks again what a cluster refuses only because its servers do not know of one another's news yet.

Never asks again what may have been done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from penstock.contracts.errors import PenstockError, Unavailable
from penstock.infra.bus import StreamError

T = TypeVar("T")
PATIENCE = 20.0  # seconds; a server gives up a broken restore after five
RETRY = 0.1
NAME_IN_USE = 10130  # by a restore that was broken off, or a stream that is being deleted
NO_PEERS_YET = 10023  # for a consumer of a stream that is getting its replicas


async def patiently(ask: Callable[[], Awaitable[T]], passing: Callable[[PenstockError], bool]) -> T:
    """What `ask` gives, asked again for some seconds while it raises what is `passing`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE
    while True:
        try:
            return await ask()
        except PenstockError as error:
            if not passing(error) or loop.time() > deadline:
                raise
        await asyncio.sleep(RETRY)


def is_name_in_use(error: PenstockError) -> bool:
    """Whether a stream of that name is not quite gone."""
    return isinstance(error, StreamError) and error.err_code == NAME_IN_USE


def has_no_peers_yet(error: PenstockError) -> bool:
    """Whether there are too few servers for a consumer."""
    return isinstance(error, StreamError) and error.err_code == NO_PEERS_YET


def is_unheard(error: PenstockError) -> bool:
    """Whether nobody listened: no timeout, after which it might have been heard."""
    return type(error) is Unavailable
