"""Appends to many aggregates at once, in as few batches as they fit into.

For those who have many in hand at a time, such as a worker. Never decides what a conflict means: an
append that was not stored, or of which nobody knows, is to be done again by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import msgspec

from penstock.contracts.errors import PenstockError
from penstock.contracts.subjects import EXPECTED
from penstock.infra.bus import Bus
from penstock.infra.commit import publish_batch
from penstock.infra.replies import ack_of
from penstock.infra.storing import REPLY

log = logging.getLogger(__name__)

UNKNOWN = 0  # in place of a sequence: not stored, or nobody knows
# A batch costs the server some milliseconds whatever it holds; few are stored sooner one by one.
FEW = 8
AT_ONCE = 400
BATCH_BYTES = 4 * 1024 * 1024
IN_FLIGHT = 2  # batches
Stored = Callable[[int], None]


class Append(msgspec.Struct, frozen=True, gc=False):
    """One event for the end of one subject, whose last sequence is `expected`."""

    subject: str
    body: bytes
    expected: int


async def append_many(bus: Bus, appends: Sequence[Append]) -> list[int]:
    """Store each, independently of the others; their sequences in order, UNKNOWN for some.

    No two may have the same subject. One that is refused, because its aggregate has moved on, keeps
    those in the same batch from being stored together: they are then stored one by one.
    """
    stored: list[int] = []
    for part in _parts(appends):
        stored += await (_one_by_one(bus, part) if len(part) < FEW else _together(bus, part))
    return stored


class Appends:
    """Appends of many who do not wait for each other: `stored` is called with what came of each.

    Few batches are on their way at a time, and what comes meanwhile goes together in the next: so
    they are as large as the server is slow, and a single append goes at once. What waits is bounded
    by those who add.
    """

    def __init__(self, bus: Bus, *, in_flight: int = IN_FLIGHT) -> None:
        self._bus = bus
        self._most = in_flight
        self._waiting: deque[tuple[Append, Stored]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_due = False

    def add(self, append: Append, stored: Stored) -> None:
        """Store it with the others that come in this round of the loop, or soon."""
        self._waiting.append((append, stored))
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._send)

    async def close(self) -> None:
        """Wait for what is on its way."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))

    def _send(self) -> None:
        self._is_due = False
        while self._waiting and len(self._tasks) < self._most:
            count = min(len(self._waiting), AT_ONCE)
            part = [self._waiting.popleft() for _ in range(count)]
            task = asyncio.get_running_loop().create_task(self._store(part))
            self._tasks.add(task)
            task.add_done_callback(self._sent)

    async def _store(self, part: Sequence[tuple[Append, Stored]]) -> None:
        sequences = [UNKNOWN] * len(part)
        try:
            sequences = await append_many(self._bus, [append for append, _ in part])
        finally:
            for (_, stored), sequence in zip(part, sequences, strict=True):
                stored(sequence)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("appends failed", exc_info=error)
        if self._waiting and not self._is_due:
            self._send()


def _parts(appends: Sequence[Append]) -> Iterator[Sequence[Append]]:
    first = size = 0
    for place, append in enumerate(appends):
        if place - first == AT_ONCE or (size and size + len(append.body) > BATCH_BYTES):
            yield appends[first:place]
            first, size = place, 0
        size += len(append.body)
    if first < len(appends):
        yield appends[first:]


async def _together(bus: Bus, part: Sequence[Append]) -> list[int]:
    messages = [(one.subject, one.body, {EXPECTED: str(one.expected)}) for one in part]
    try:
        last = await publish_batch(bus, messages, timeout=REPLY)
    except PenstockError:
        return await _one_by_one(bus, part)
    return list(range(last - len(part) + 1, last + 1))


async def _one_by_one(bus: Bus, part: Sequence[Append]) -> list[int]:
    """All on their way at once. What was stored before is refused: its place is UNKNOWN."""
    return list(await asyncio.gather(*(_alone(bus, one) for one in part)))


async def _alone(bus: Bus, one: Append) -> int:
    headers = {EXPECTED: str(one.expected)}
    try:
        reply = await bus.publish_ahead(one.subject, one.body, headers, timeout=REPLY)
        return ack_of((await reply)[0]).seq
    except PenstockError:
        return UNKNOWN
