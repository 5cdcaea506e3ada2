"""Stores and reads through lost connections and elections of a leader. Only what may arrive twice.

Never waits for a stream that does not exist.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from penstock.contracts.errors import Timeout, Unavailable
from penstock.infra.bus import Ack, Bus, ConnectionLost, Stored, StreamError

T = TypeVar("T")
RETRY = 0.1  # seconds between attempts while a stream has no leader
REPLY = 5.0  # seconds until what was sent counts as lost, with a server that died
IN_PROCESS = 10158  # a copy with the same Nats-Msg-Id is on its way through a cluster
LOOK = 2.0  # seconds for looking whether there is such a stream


async def store(
    bus: Bus,
    stream: str,
    subject: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    timeout: float,
) -> Ack:
    """Publish into `stream` until it is stored, within `timeout` seconds.

    The headers hold a Nats-Msg-Id, since the message may be sent several times. Raises StreamError,
    TooLarge, Unavailable, or Timeout, after which it may or may not be stored.
    """

    async def attempt(left: float) -> Ack:
        return await bus.publish_acked(subject, body, dict(headers), timeout=left)

    return await despite_elections(bus, stream, attempt, timeout)


async def read(bus: Bus, stream: str, request: dict[str, Any], *, timeout: float) -> list[Stored]:
    """As `Bus.direct_get`, but through lost connections and elections. Raises as that does."""

    async def attempt(left: float) -> list[Stored]:
        return await bus.direct_get(stream, request, timeout=left)

    return await despite_elections(bus, stream, attempt, timeout)


async def despite_elections(
    bus: Bus, stream: str, attempt: Callable[[float], Awaitable[T]], timeout: float
) -> T:
    """As `despite_lost_connections`, and also when another's connection was lost on the way.

    That is silence: a server that died, or the stream has no leader now.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while True:
        left = max(deadline - loop.time(), RETRY)
        try:
            return await despite_lost_connections(attempt, min(left, REPLY))
        except Timeout:
            if left <= REPLY:
                raise
        except StreamError as error:
            if error.err_code != IN_PROCESS or left <= 2 * RETRY:
                raise
        except Unavailable:  # nobody listens there: the stream has no leader, or does not exist
            if left <= 2 * RETRY or not await _exists(bus, stream):
                raise
        await asyncio.sleep(RETRY)


async def despite_lost_connections(attempt: Callable[[float], Awaitable[T]], timeout: float) -> T:
    """Make `attempt` again, with the seconds left, when the connection was lost meanwhile.

    What is attempted has an id, or no effect, so that it may arrive twice.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while True:
        try:
            return await attempt(deadline - loop.time())
        except ConnectionLost:
            if loop.time() >= deadline:
                raise


async def _exists(bus: Bus, stream: str) -> bool:
    """Whether there may be such a stream: False only if the servers say that there is none."""
    try:
        await bus.api(f"STREAM.INFO.{stream}", timeout=LOOK)
    except StreamError:
        return False
    except Unavailable:
        pass  # nobody knows now
    return True
