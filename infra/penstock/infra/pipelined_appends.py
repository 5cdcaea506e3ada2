"""Appends of many who do not wait for each other, each stored by itself, all on their way at once.

For a server that syncs nothing: it has a third less work with single messages than with a batch,
whose files it makes and syncs all the same. Never decides what a conflict means, and never retries
what may have been stored.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from functools import partial

from nats.aio.msg import Msg

from penstock.contracts.errors import PenstockError, TooLarge, Unavailable
from penstock.contracts.subjects import EXPECTED
from penstock.infra.append_many import BATCH_BYTES, UNKNOWN, Append, Stored
from penstock.infra.bus import Bus, Message
from penstock.infra.inbox import Answered
from penstock.infra.replies import ack_of
from penstock.infra.shared_batches import GIVEN_UP
from penstock.infra.storing import REPLY

# On their way at a time. More would wait at the server, which refuses what waits behind 100,000.
MOST = 1000
MOST_BYTES = 2 * BATCH_BYTES


class PipelinedAppends:
    """`stored` is called with the sequence of each, or UNKNOWN: not stored, or nobody knows.

    What is added in one round of the loop goes in one write; what would be more than `most` waits
    until others are answered. How much waits is bounded by those who add.
    """

    def __init__(self, bus: Bus, *, most: int = MOST) -> None:
        self._bus = bus
        self._most = most
        self._waiting: deque[tuple[Append, Stored]] = deque()
        self._count = self._bytes = 0  # on their way
        self._sending: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    def add(self, append: Append, stored: Stored) -> None:
        """Store it; `stored` takes no time and raises nothing."""
        self._waiting.append((append, stored))
        self._idle.clear()
        self._wake()

    async def close(self) -> None:
        """Wait until each is answered, or late."""
        await self._idle.wait()

    def _wake(self) -> None:
        """Send in the next round of the loop, when all who come in this one are here."""
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send(), name="pipelined-appends")

    async def _send(self) -> None:
        while part := self._next():
            await self._publish(part)

    def _next(self) -> list[tuple[Append, Stored]]:
        """What may go now."""
        part: list[tuple[Append, Stored]] = []
        waiting = self._waiting
        room, left = self._most - self._count, MOST_BYTES - self._bytes
        while waiting and len(part) < room and left > 0:
            part.append(waiting.popleft())
            left -= len(part[-1][0].body)
        self._count += len(part)
        self._bytes = MOST_BYTES - left
        return part

    async def _publish(self, part: Sequence[tuple[Append, Stored]]) -> None:
        messages: list[Message] = [
            (one.subject, one.body, {EXPECTED: str(one.expected)}) for one, _ in part
        ]
        answered: list[Answered] = [
            partial(self._answered, len(one.body), stored) for one, stored in part
        ]
        try:
            await self._bus.publish_each(messages, answered, timeout=REPLY)
        except TooLarge as error:
            if len(part) == 1:
                answered[0](error)
                return
            for one in part:  # so that it concerns no other
                await self._publish([one])
        except PenstockError as error:
            for answer in answered:
                answer(error)
        except BaseException:  # a defect, or the loop ends: nobody may wait for ever
            for answer in answered:
                answer(Unavailable(GIVEN_UP))
            raise

    def _answered(self, size: int, stored: Stored, reply: Msg | PenstockError) -> None:
        self._count -= 1
        self._bytes -= size
        if self._waiting:
            self._wake()
        elif not self._count:
            self._idle.set()
        stored(_sequence(reply))


def _sequence(reply: Msg | PenstockError) -> int:
    if isinstance(reply, PenstockError):
        return UNKNOWN
    try:
        return ack_of(reply).seq
    except PenstockError:
        return UNKNOWN
