"""How messages reach a stream: one by itself, or several as one atomic batch.

Never looks at content. Appends that wait for each other are in `group_commit`.

Batches: https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-50.md
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import Protocol

from penstock.contracts.errors import TooLarge, Unavailable
from penstock.contracts.subjects import EXPECTED
from penstock.infra.bus import Bus, Message, StreamError
from penstock.infra.nats_frames import numbered

MAX_BATCH = 1000  # messages: the server's own limit
# The server had no room for another open batch, or gave up ours before it was complete.
NOTHING_STORED = (10210, 10176)


class Commit(Protocol):
    """Stores messages of one subject after an expected sequence, all or none."""

    async def append(self, subject: str, bodies: Sequence[bytes], expected: int) -> int:
        """The sequence of the last one.

        Raises StreamError, TooLarge, Unavailable; or Timeout or ConnectionLost, after which they
        may or may not be stored.
        """
        ...

    async def close(self) -> None:
        """Wait for what is under way."""
        ...


async def publish_batch(bus: Bus, messages: Sequence[Message], *, timeout: float) -> int:
    """Publish up to 1000 messages as one atomic batch; the sequence of the last.

    Raises as `Commit.append` does; Unavailable also when the server has too many batches open.
    """
    if len(messages) > MAX_BATCH:
        raise TooLarge(f"One append holds at most {MAX_BATCH} events, this one {len(messages)}.")
    for _, body, _ in messages:
        bus.check_size(len(body))  # before the first is sent: a batch left open takes up room
    id = uuid.uuid4().hex[:16]
    if len(messages) > 1:
        await bus.publish_members(messages[:1], id, 1)
        # The first one goes out now: the server makes the batch's files, which takes it some
        # milliseconds, while the others are made here.
        await asyncio.sleep(0)
        await bus.publish_members(messages[1:-1], id, 2)
    [(subject, body, headers)] = numbered(messages[-1:], id, len(messages))
    headers = {**headers, "Nats-Batch-Commit": "1"}
    try:
        return (await bus.publish_acked(subject, body, headers, timeout=timeout)).seq
    except StreamError as error:
        if error.err_code in NOTHING_STORED:
            raise Unavailable("The server has too many batches open; try again.") from error
        raise


async def publish_one(
    bus: Bus, subject: str, bodies: Sequence[bytes], expected: int, *, timeout: float
) -> int:
    """One append by itself: a plain publish, or a batch when it has several messages."""
    if len(bodies) == 1:
        headers = {EXPECTED: str(expected)}
        return (await bus.publish_acked(subject, bodies[0], headers, timeout=timeout)).seq
    return await publish_batch(bus, members(subject, bodies, expected), timeout=timeout)


def members(subject: str, bodies: Sequence[bytes], expected: int) -> list[Message]:
    """One append as members of a batch: the first one carries what is expected."""
    first = (subject, bodies[0], {EXPECTED: str(expected)})
    return [first, *((subject, body, {}) for body in bodies[1:])]


class SingleCommit:
    """Each append at once, pipelined with the others: best where the server does not sync."""

    def __init__(self, bus: Bus, *, timeout: float) -> None:
        self._bus = bus
        self._timeout = timeout

    async def append(self, subject: str, bodies: Sequence[bytes], expected: int) -> int:
        """See `Commit.append`."""
        return await publish_one(self._bus, subject, bodies, expected, timeout=self._timeout)

    async def close(self) -> None:
        """Nothing is held back here."""
