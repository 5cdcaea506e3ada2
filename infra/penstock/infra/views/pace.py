"""How long events gather until they are folded together. Never folds.

What comes rarely is folded after a moment: whoever caused it goes on with it now, in this process
most likely, and folding would keep them for longer than they need. A transaction costs as much as
dozens of events, though, and what changed several times in one is written once: where much comes,
and nobody waits for it, folding leaves most of the time to whatever else the process does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

PAUSE = 3.0  # times as long as the last fold took
LEAST = 0.005  # seconds from the first that came
LONGEST = 0.1  # seconds
WATCHED = 0.02  # the same while somebody wants to hear news of something
FAR = 1000  # events behind that are not waited for: there is enough to fold


class Pace:
    """Of one view. `hurry` is to be called when somebody begins to wait for it."""

    def __init__(self) -> None:
        self._took = 0.0
        self._ended = 0.0
        self._called = asyncio.Event()

    def hurry(self) -> None:
        """Let nothing gather now."""
        self._called.set()

    @contextmanager
    def folding(self) -> Iterator[None]:
        """Events are folded while the block runs."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        yield
        self._ended = loop.time()
        self._took = self._ended - started

    async def gather(self, *, behind: int, awaited: bool, watched: bool) -> None:
        """Wait for more to fold, where there is something, unless the view is far `behind` or is
        `awaited`; not for long while somebody wants to hear of it.
        """
        self._called.clear()
        now, longest = asyncio.get_running_loop().time(), WATCHED if watched else LONGEST
        least = now if watched else now + LEAST
        until = max(least, self._ended + min(longest, PAUSE * self._took))
        if awaited or behind > FAR or until <= now:
            return
        try:
            # Not `wait_for`: until Python 3.12 it forgets a cancellation that comes with the call.
            async with asyncio.timeout_at(until):
                await self._called.wait()
        except TimeoutError:
            return
