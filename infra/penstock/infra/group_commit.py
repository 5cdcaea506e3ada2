"""Appends that come together are stored together: for a server that syncs its disk once a batch.

Never looks at content and never retries what may have been stored.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from nats.aio.msg import Msg

from penstock.contracts.errors import PenstockError, TooLarge, Unavailable
from penstock.contracts.subjects import EXPECTED
from penstock.infra.bus import Bus, StreamError
from penstock.infra.commit import MAX_BATCH, members, publish_batch, publish_one
from penstock.infra.replies import ack_of

BATCH_BYTES = 4 * 1024 * 1024
MAX_WAITING = 20_000
# A batch costs the server as much as a dozen single messages, each with a sync of its own: files
# made, synced and removed again, some 3 ms. So few messages go one by one.
FEW = 8


class _Waiting:
    __slots__ = ("bodies", "deadline", "done", "expected", "size", "subject")

    def __init__(
        self, subject: str, bodies: Sequence[bytes], expected: int, timeout: float
    ) -> None:
        loop = asyncio.get_running_loop()
        self.subject = subject
        self.bodies = bodies
        self.expected = expected
        self.size = sum(map(len, bodies))
        self.deadline = loop.time() + timeout
        self.done: asyncio.Future[int] = loop.create_future()

    def stored(self, sequence: int) -> None:
        if not self.done.done():
            self.done.set_result(sequence)

    def failed(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class GroupCommit:
    """Few appends are sent as they come; those that arrive while a batch is on its way, or more
    than few at a time, go together in one batch.

    Two appends to one subject are never on their way together, since an expectation is checked
    against what was stored before the batch. A batch that is refused is taken apart and tried one
    by one. What nobody waits for any more, or what waited longer than `timeout` seconds, is not
    sent. `max_waiting` appends may wait at a time.
    """

    def __init__(self, bus: Bus, *, timeout: float, max_waiting: int = MAX_WAITING) -> None:
        self._bus = bus
        self._timeout = timeout
        self._max_waiting = max_waiting
        self._count = 0
        self._alone = 0  # on their way outside a batch
        # Each subject's appends in order; the first may be on its way. Those that are not and
        # could be are `ready`.
        self._lines: dict[str, deque[_Waiting]] = {}
        self._ready: deque[str] = deque()
        self._sender: asyncio.Task[None] | None = None

    async def append(self, subject: str, bodies: Sequence[bytes], expected: int) -> int:
        """See `Commit.append`."""
        if self._count >= self._max_waiting:
            raise Unavailable(f"{self._count} appends are waiting; slow down and try again.")
        entry = _Waiting(subject, bodies, expected, self._timeout)
        self._enter(entry)
        self._wake()
        return await entry.done

    async def close(self) -> None:
        """Wait for what is under way."""
        while pending := [entry.done for line in self._lines.values() for entry in line]:
            await asyncio.wait(pending)
            await asyncio.sleep(0)  # what was done leaves its line
        if self._sender:
            await self._sender

    # -- who waits ---------------------------------------------------------------------------

    def _enter(self, entry: _Waiting) -> None:
        self._count += 1
        line = self._lines.get(entry.subject)
        if line is None:
            self._lines[entry.subject] = deque((entry,))
            self._ready.append(entry.subject)
        else:
            line.append(entry)

    def _leave(self, entry: _Waiting) -> None:
        if not entry.done.done():
            entry.failed(Unavailable("The event log was closed."))
        self._count -= 1
        line = self._lines[entry.subject]
        line.popleft()
        if line:
            self._ready.append(entry.subject)
        else:
            del self._lines[entry.subject]

    def _next(self) -> _Waiting | None:
        """The first one ready, if it is still to be sent."""
        entry = self._lines[self._ready.popleft()][0]
        if entry.deadline < asyncio.get_running_loop().time():
            entry.failed(Unavailable("The event log is behind and did not store it; try again."))
        if entry.done.done():
            self._leave(entry)
            return None
        return entry

    def _take(self) -> list[_Waiting]:
        """The next batch, within its limits."""
        group: list[_Waiting] = []
        count = size = 0
        while self._ready:
            head = self._lines[self._ready[0]][0]
            count += len(head.bodies)
            size += head.size
            if group and (count > MAX_BATCH or size > BATCH_BYTES):
                break
            if entry := self._next():
                group.append(entry)
        return group

    # -- sending -----------------------------------------------------------------------------

    def _wake(self) -> None:
        """Send in the next round of the loop, when all who come in this one are here."""
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send(), name="group-commit")

    async def _send(self) -> None:
        while self._ready:
            if not self._few():
                await self._send_together(self._take())
            elif self._alone < FEW:
                await self._send_alone(self._next())
            else:
                return  # whoever comes back first wakes this

    def _few(self) -> bool:
        if len(self._ready) > FEW:
            return False
        return all(len(self._lines[subject][0].bodies) == 1 for subject in self._ready)

    async def _send_alone(self, entry: _Waiting | None) -> None:
        if entry is None:
            return
        headers = {EXPECTED: str(entry.expected)}
        try:
            reply = await self._bus.publish_ahead(
                entry.subject, entry.bodies[0], headers, timeout=self._timeout
            )
        except PenstockError as error:
            entry.failed(error)
            self._leave(entry)
            return
        self._alone += 1
        reply.add_done_callback(lambda reply: self._answered(entry, reply))

    def _answered(self, entry: _Waiting, reply: asyncio.Future[list[Msg]]) -> None:
        try:
            entry.stored(ack_of(reply.result()[0]).seq)
        except PenstockError as error:
            entry.failed(error)
        finally:
            self._alone -= 1
            self._leave(entry)
        if self._ready:
            self._wake()

    async def _send_together(self, group: list[_Waiting]) -> None:
        try:
            await self._store(group)
        finally:
            for entry in group:
                self._leave(entry)
        # Those just answered come back at once: with them the next batch is full, not half.
        await asyncio.sleep(0)

    async def _store(self, group: list[_Waiting]) -> None:
        if not group:  # all of them were late
            return
        messages = [m for e in group for m in members(e.subject, e.bodies, e.expected)]
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
