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

MAX_BATCH = 1000  # the server's own limit
BATCH_BYTES = 4 * 1024 * 1024
MAX_WAITING = 20_000
Message = tuple[str, bytes, dict[str, str]]


class Commit(Protocol):
    """Stores messages of one subject after an expected sequence, all or none."""

    def __init__(self, bus: Bus) -> None: ...

    async def append(
        self, subject: str, bodies: Sequence[bytes], expected: int, *, timeout: float
    ) -> int:
        """The sequence of the last one. Raises StreamError, Timeout or Unavailable."""
        ...

    async def close(self) -> None:
        """Wait for what is under way."""
        ...


def _messages(subject: str, bodies: Sequence[bytes], expected: int) -> list[Message]:
    first = (subject, bodies[0], {EXPECTED: str(expected)})
    return [first, *((subject, body, {}) for body in bodies[1:])]


async def publish_batch(bus: Bus, messages: Sequence[Message], *, timeout: float) -> int:
    """Publish up to 1000 messages as one atomic batch; the sequence of the last."""
    if len(messages) > MAX_BATCH:
        raise TooLarge(f"One append holds at most {MAX_BATCH} events, this one {len(messages)}.")
    batch = uuid.uuid4().hex
    for position, (subject, body, headers) in enumerate(messages[:-1], 1):
        marks = {**headers, "Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(position)}
        await bus.nc.publish(subject, body, headers=marks)
    subject, body, headers = messages[-1]
    marks = {
        **headers,
        "Nats-Batch-Id": batch,
        "Nats-Batch-Sequence": str(len(messages)),
        "Nats-Batch-Commit": "1",
    }
    return (await bus.publish_acked(subject, body, marks, timeout=timeout)).seq


async def publish_one(
    bus: Bus, subject: str, bodies: Sequence[bytes], expected: int, *, timeout: float
) -> int:
    """One append by itself: a plain publish, or a batch when it has several messages."""
    if len(bodies) == 1:
        headers = {EXPECTED: str(expected)}
        return (await bus.publish_acked(subject, bodies[0], headers, timeout=timeout)).seq
    return await publish_batch(bus, _messages(subject, bodies, expected), timeout=timeout)


class SingleCommit:
    """Each append at once, pipelined with the others: best where the server does not sync."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def append(
        self, subject: str, bodies: Sequence[bytes], expected: int, *, timeout: float
    ) -> int:
        """See `Commit.append`."""
        return await publish_one(self._bus, subject, bodies, expected, timeout=timeout)

    async def close(self) -> None:
        """Nothing is held back here."""


class _Waiting:
    __slots__ = ("bodies", "deadline", "done", "expected", "size", "subject")

    def __init__(
        self, subject: str, bodies: Sequence[bytes], expected: int, deadline: float
    ) -> None:
        self.subject = subject
        self.bodies = bodies
        self.expected = expected
        self.deadline = deadline
        self.size = sum(map(len, bodies))
        self.done: asyncio.Future[int] = asyncio.get_running_loop().create_future()


class GroupCommit:
    """Appends that arrive while one batch is on its way go together in the next.

    Two appends to one subject never share a batch, since an expectation is checked against what
    was stored before the batch. A batch that is refused is taken apart and tried one by one.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting: deque[_Waiting] = deque()
        self._flusher: asyncio.Task[None] | None = None

    async def append(
        self, subject: str, bodies: Sequence[bytes], expected: int, *, timeout: float
    ) -> int:
        """See `Commit.append`."""
        if len(self._waiting) >= MAX_WAITING:
            raise Unavailable(f"{MAX_WAITING} appends are waiting; slow down and try again.")
        deadline = asyncio.get_running_loop().time() + timeout
        entry = _Waiting(subject, bodies, expected, deadline)
        self._waiting.append(entry)
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush(), name="group-commit")
        return await entry.done

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._flusher:
            await self._flusher

    async def _flush(self) -> None:
        while self._waiting:
            group = self._take()
            try:
                await self._store(group)
            except BaseException as error:
                _fail(group, error)
                raise

    def _take(self) -> list[_Waiting]:
        """The next group: within the limits, each subject once, the order of a subject kept."""
        group: list[_Waiting] = []
        later: deque[_Waiting] = deque()
        subjects: set[str] = set()
        count = size = 0
        while self._waiting and count < MAX_BATCH and size < BATCH_BYTES:
            entry = self._waiting.popleft()
            fits = not group or (
                count + len(entry.bodies) <= MAX_BATCH and size + entry.size <= BATCH_BYTES
            )
            if entry.subject in subjects or not fits:
                subjects.add(entry.subject)
                later.append(entry)
                continue
            subjects.add(entry.subject)
            group.append(entry)
            count += len(entry.bodies)
            size += entry.size
        self._waiting.extendleft(reversed(later))
        return group

    async def _store(self, group: list[_Waiting]) -> None:
        if len(group) == 1:
            await self._store_alone(group[0])
            return
        messages = [m for e in group for m in _messages(e.subject, e.bodies, e.expected)]
        try:
            last = await publish_batch(self._bus, messages, timeout=self._left(group))
        except StreamError:
            await asyncio.gather(*(self._store_alone(entry) for entry in group))
            return
        except PenstockError as error:
            _fail(group, error)
            return
        sequence = last - len(messages)
        for entry in group:
            sequence += len(entry.bodies)
            if not entry.done.done():
                entry.done.set_result(sequence)

    async def _store_alone(self, entry: _Waiting) -> None:
        try:
            sequence = await publish_one(
                self._bus, entry.subject, entry.bodies, entry.expected, timeout=self._left([entry])
            )
        except PenstockError as error:
            _fail([entry], error)
        else:
            if not entry.done.done():
                entry.done.set_result(sequence)

    def _left(self, group: list[_Waiting]) -> float:
        now = asyncio.get_running_loop().time()
        return max(0.0, min(entry.deadline for entry in group) - now)


def _fail(group: list[_Waiting], error: BaseException) -> None:
    for entry in group:
        if not entry.done.done():
            entry.done.set_exception(
                error if isinstance(error, Exception) else Unavailable("The log was closed.")
            )
