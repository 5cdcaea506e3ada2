"""Atomic batches of several who have one each: those that come while others are on their way go
together, since a batch costs the server some milliseconds whatever it holds.

Never looks at content and never retries what may have been stored.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from penstock.contracts.errors import PenstockError, TooLarge, Unavailable
from penstock.infra.append_many import BATCH_BYTES, FEW, IN_FLIGHT
from penstock.infra.bus import Bus, Message, StreamError
from penstock.infra.commit import MAX_BATCH, publish_batch

GIVEN_UP = "It was given up on the way; try again."


class _Part:
    __slots__ = ("done", "messages", "size", "subjects")

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = messages
        self.subjects = {subject for subject, _, _ in messages}
        self.size = sum(len(body) for _, body, _ in messages)
        self.done: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def stored(self, last: int) -> None:
        if not self.done.done():
            self.done.set_result(last)

    def failed(self, error: PenstockError) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class SharedBatches:
    """Into one stream. How much waits is bounded by those who publish.

    Two parts with a subject in common never go together: what is expected of a subject is looked
    at before the batch. A batch that is refused is taken apart, and each part tried by itself.
    """

    def __init__(self, bus: Bus, *, timeout: float, in_flight: int = IN_FLIGHT) -> None:
        self._bus = bus
        self._timeout = timeout
        self._slots = in_flight
        self._waiting: deque[_Part] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_due = False

    async def publish(self, messages: Sequence[Message]) -> int:
        """Store these, up to 1000, all or none; the sequence of the last, behind the others.

        Raises as `publish_batch`.
        """
        part = _Part(messages)
        self._waiting.append(part)
        self._wake()
        return await part.done

    def _wake(self) -> None:
        """Send in the next round of the loop, when all who come in this one are here."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._is_due = False
        while self._waiting and len(self._tasks) < self._slots:
            task = asyncio.create_task(self._store(self._take()), name="shared-batch")
            self._tasks.add(task)
            task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake()

    def _take(self) -> list[_Part]:
        """The first part that waits, and those behind it that go with it."""
        parts = [self._waiting.popleft()]
        subjects = parts[0].subjects
        count, size = len(parts[0].messages), parts[0].size
        while self._waiting:
            other = self._waiting[0]
            count, size = count + len(other.messages), size + other.size
            if count > MAX_BATCH or size > BATCH_BYTES or subjects & other.subjects:
                break
            subjects = subjects | other.subjects
            parts.append(self._waiting.popleft())
        return parts

    async def _store(self, parts: Sequence[_Part]) -> None:
        messages = [message for part in parts for message in part.messages]
        if len(messages) == len(parts) <= FEW:
            await asyncio.gather(*(self._store_alone(part) for part in parts))
            return
        try:
            sequence = await publish_batch(self._bus, messages, timeout=self._timeout)
        except (StreamError, TooLarge) as error:
            await self._apart(parts, error)
        except PenstockError as error:
            for part in parts:
                part.failed(error)
        else:
            sequence -= len(messages)
            for part in parts:
                sequence += len(part.messages)
                part.stored(sequence)
        finally:
            for part in parts:  # those that are not told yet, whatever happened
                part.failed(Unavailable(GIVEN_UP))

    async def _store_alone(self, part: _Part) -> None:
        [(subject, body, headers)] = part.messages
        try:
            ack = await self._bus.publish_acked(subject, body, headers, timeout=self._timeout)
        except PenstockError as error:
            part.failed(error)
        else:
            part.stored(ack.seq)
        finally:
            part.failed(Unavailable(GIVEN_UP))

    async def _apart(self, parts: Sequence[_Part], refusal: PenstockError) -> None:
        if len(parts) == 1:
            parts[0].failed(refusal)
            return
        await asyncio.gather(*(self._store([part]) for part in parts))
