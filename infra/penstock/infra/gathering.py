"""Sends together what many have to say to one receiver at about the same time. Keeps nothing.

The first goes at once; what comes while it is on its way, or so soon after it that the receiver
would be busy with it, goes with the next.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from penstock.infra.keyed_locks import KeyedLocks

REMEMBERED = 1_000  # receivers that something was sent to lately

T = TypeVar("T")
Send = Callable[[str, Sequence[T]], Awaitable[None]]


class _Together(Generic[T]):
    """What goes in one message."""

    def __init__(self) -> None:
        self.said: list[T] = []
        self.is_sent = False
        self.error: Exception | None = None


class Gathering(Generic[T]):
    """`send` is called with a receiver and at most `most` of what there is to say to it, for one
    receiver never twice at a time, nor within `pause` seconds.
    """

    def __init__(self, send: Send[T], *, most: int, pause: float = 0.0) -> None:
        self._send = send
        self._most = most
        self._pause = pause
        self._sent: OrderedDict[str, float] = OrderedDict()
        self._open: dict[str, _Together[T]] = {}
        self._locks = KeyedLocks()

    async def say(self, receiver: str, what: T) -> None:
        """Say it, with others perhaps; it is sent when this returns. Raises what `send` raises."""
        together = self._open.get(receiver)
        if together is None or len(together.said) >= self._most:
            together = self._open[receiver] = _Together()
        together.said.append(what)
        await asyncio.sleep(0)  # those who come in this round of the loop come along
        async with self._locks.of(receiver):
            if not together.is_sent and together.error is None:
                await self._send_now(receiver, together)
        if together.error is not None:
            raise together.error

    async def _send_now(self, receiver: str, together: _Together[T]) -> None:
        """Should whoever does it be cancelled, the next one who waits for it does it."""
        await self._until_due(receiver)
        if self._open.get(receiver) is together:
            del self._open[receiver]
        try:
            await self._send(receiver, together.said)
            together.is_sent = True
        except Exception as error:  # noqa: BLE001 - raised by all who wait for it
            together.error = error
        self._sent[receiver] = asyncio.get_running_loop().time()
        self._sent.move_to_end(receiver)
        if len(self._sent) > REMEMBERED:
            self._sent.popitem(last=False)

    async def _until_due(self, receiver: str) -> None:
        due = self._sent.get(receiver, -self._pause) + self._pause
        if (left := due - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(left)
