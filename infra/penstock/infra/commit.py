"""How appends reach a stream: each at once, or many as one atomic batch. Never looks at content.

Batches: https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-50.md
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from penstock.contracts.errors import PenstockError, TooLarge, Unavailable
from penstock.contracts.subjects import EXPECTED
from penstock.infra.bus import Bus, StreamError

MAX_BATCH = 1000  # messages: the server's own limit
BATCH_BYTES = 4 * 1024 * 1024
MAX_WAITING = 20_000
# The server had no room for another open batch, or gave up ours before it was complete.
NOTHING_STORED = (10210, 10176)
Message = tuple[str, bytes, dict[str, str]]


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
    batch = uuid.uuid4().hex[:16]
    last = len(messages)
    for position, (subject, body, headers) in enumerate(messages, 1):
        headers["Nats-Batch-Id"] = batch
        headers["Nats-Batch-Sequence"] = str(position)
        if position < last:
            await bus.publish(subject, body, headers)
    headers["Nats-Batch-Commit"] = "1"
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
    return await publish_batch(bus, _messages(subject, bodies, expected), timeout=timeout)


def _messages(subject: str, bodies: Sequence[bytes], expected: int) -> list[Message]:
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


class _Waiting:
    __slots__ = ("bodies", "done", "expected", "size", "subject")

    def __init__(self, subject: str, bodies: Sequence[bytes], expected: int) -> None:
        self.subject = subject
        self.bodies = bodies
        self.expected = expected
        self.size = sum(map(len, bodies))
        self.done: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def stored(self, sequence: int) -> None:
        if not self.done.done():
            self.done.set_result(sequence)

    def failed(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class GroupCommit:
    """Appends that arrive while one batch is on its way go together in the next.

    Two appends to one subject are never on their way together, since an expectation is checked
    against what was stored before the batch. A batch that is refused is taken apart and tried one
    by one. What nobody waits for any more is not sent. `max_waiting` appends may wait at a time.
    """

    def __init__(self, bus: Bus, *, timeout: float, max_waiting: int = MAX_WAITING) -> None:
        self._bus = bus
        self._timeout = timeout
        self._max_waiting = max_waiting
        self._count = 0
        # Each subject's appends in order; the first may be on its way. Those that are not and
        # could be are `ready`.
        self._lines: dict[str, deque[_Waiting]] = {}
        self._ready: deque[str] = deque()
        self._flusher: asyncio.Task[None] | None = None

    async def append(self, subject: str, bodies: Sequence[bytes], expected: int) -> int:
        """See `Commit.append`."""
        if self._count >= self._max_waiting:
            raise Unavailable(f"{self._count} appends are waiting; slow down and try again.")
        entry = _Waiting(subject, bodies, expected)
        self._enter(entry)
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush(), name="group-commit")
        return await entry.done

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._flusher:
            await self._flusher

    async def _flush(self) -> None:
        while group := self._take():
            try:
                await self._store(group)
            finally:
                self._leave(group)

    def _enter(self, entry: _Waiting) -> None:
        self._count += 1
        line = self._lines.get(entry.subject)
        if line is None:
            self._lines[entry.subject] = deque((entry,))
            self._ready.append(entry.subject)
        else:
            line.append(entry)

    def _take(self) -> list[_Waiting]:
        """The next group, within the limits of a batch."""
        group: list[_Waiting] = []
        count = size = 0
        while self._ready:
            entry = self._lines[self._ready[0]][0]
            count += len(entry.bodies)
            size += entry.size
            if group and (count > MAX_BATCH or size > BATCH_BYTES):
                break
            self._ready.popleft()
            if entry.done.done():
                self._leave([entry])
            else:
                group.append(entry)
        return group

    def _leave(self, group: list[_Waiting]) -> None:
        self._count -= len(group)
        for entry in group:
            if not entry.done.done():
                entry.failed(Unavailable("The event log was closed."))
            line = self._lines[entry.subject]
            line.popleft()
            if line:
                self._ready.append(entry.subject)
            else:
                del self._lines[entry.subject]

    async def _store(self, group: list[_Waiting]) -> None:
        if len(group) == 1:
            await self._store_alone(group[0])
            return
        messages = [m for e in group for m in _messages(e.subject, e.bodies, e.expected)]
        try:
            last = await publish_batch(self._bus, messages, timeout=self._timeout)
        except (StreamError, TooLarge):
            await asyncio.gather(*(self._store_alone(entry) for entry in group))
        except PenstockError as error:
            for entry in group:
                entry.failed(error)
        else:
            sequence = last - len(messages)
            for entry in group:
                sequence += len(entry.bodies)
                entry.stored(sequence)

    async def _store_alone(self, entry: _Waiting) -> None:
        try:
            sequence = await publish_one(
                self._bus, entry.subject, entry.bodies, entry.expected, timeout=self._timeout
            )
        except PenstockError as error:
            entry.failed(error)
        else:
            entry.stored(sequence)
