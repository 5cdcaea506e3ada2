"""Which commands are done, for whoever removes them from their stream; see `clearing`.

Never acknowledges or removes one.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence

from penstock.infra.bus import Stored
from penstock.infra.consuming.carrying_out import Delivered

REMEMBERED = 20_000  # commands that were done last
AT_ONCE = 8  # that are carried out once more, for others wait for their first time


class DoneCommands:
    """Those of one service that this instance knows, or has found out about.

    Of a command that another instance did, or this one before it was killed, nobody can tell
    whether everything it was to cause is stored. So such a one is carried out once more where it
    stands, which changes nothing if it was done, and leaves no second dead letter.
    """

    def __init__(self, carry_out: Callable[[Delivered], Awaitable[float | None]]) -> None:
        self._carry_out = carry_out
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._done: OrderedDict[int, int] = OrderedDict()

    def add(self, sequence: int, body: bytes) -> None:
        """What the command at this place caused is stored."""
        # With its content: a stream that was made anew counts from 1 again.
        self._done[sequence] = hash(body)
        if len(self._done) > REMEMBERED:
            self._done.popitem(last=False)

    async def known(self, commands: Sequence[Stored]) -> set[int]:
        """The sequences of those of which it is known."""
        return {one.sequence for one in commands if self._is_known(one)}

    async def settled(self, commands: Sequence[Stored]) -> set[int]:
        """The same, and of those of which it was found out."""
        doubtful = [one for one in commands if not self._is_known(one)]
        await asyncio.gather(*map(self._once_more, doubtful))
        return await self.known(commands)

    def _is_known(self, one: Stored) -> bool:
        return self._done.get(one.sequence) == hash(one.data)

    async def _once_more(self, one: Stored) -> None:
        async with self._slots:
            again = await self._carry_out(
                Delivered(one.sequence, one.subject, one.data, one.headers)
            )
        if again is None:
            self.add(one.sequence, one.data)
