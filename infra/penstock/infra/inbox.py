"""Replies: one inbox for all that is asked, each reply awaited until a deadline.

A subscription per request would cost more than the request. Never sends and never judges a reply.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence

from nats.aio.msg import Msg

from penstock.contracts.errors import PenstockError, Timeout, Unavailable

SWEEP = 0.25  # seconds between two looks for what is late
IsLast = Callable[[Msg], bool]
Answered = Callable[[Msg | PenstockError], None]
"""What is called with a reply, or with why there is none. It takes no time and raises nothing."""


class ConnectionLost(Timeout):
    """The connection ended before the answer came. What was asked may have happened."""

    code, title, status = "connection-lost", "Connection lost", 503


def status_of(msg: Msg) -> str | None:
    """The status that a reply carries instead of content, such as `503`; None for content."""
    return msg.headers.get("Status") if msg.headers else None


def has_status(msg: Msg) -> bool:
    """Whether a reply carries a status, which ends several of them."""
    return status_of(msg) is not None


def _any(_: Msg) -> bool:
    return True


class _Waiter:
    """Gathers the replies to one request until `is_last` says that it was the last one.

    `lost` tells whether to give up when the connection is lost, since the request may be.
    """

    __slots__ = ("deadline", "future", "got", "is_last", "lost")

    def __init__(self, deadline: float, is_last: IsLast, *, lost: bool) -> None:
        self.future: asyncio.Future[list[Msg]] = asyncio.get_running_loop().create_future()
        self.deadline = deadline
        self.got: list[Msg] = []
        self.is_last = is_last
        self.lost = lost

    def take(self, place: str, msg: Msg) -> bool:
        """Whether this was the last one."""
        self.got.append(msg)
        if not self.is_last(msg):
            return False
        if not self.future.done():
            self.future.set_result(self.got)
        return True

    def fail(self, error: PenstockError) -> None:
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()  # nobody may wait any more: that is no error of its own


class _Each:
    """Hands out the one reply to each of many requests as it comes, by the place of the request."""

    __slots__ = ("answered", "deadline", "left", "lost")

    def __init__(self, deadline: float, answered: Sequence[Answered]) -> None:
        self.answered: list[Answered | None] = list(answered)
        self.left = len(answered)
        self.deadline = deadline
        self.lost = True

    def take(self, place: str, msg: Msg) -> bool:
        """Whether this was the last one."""
        number = int(place)
        answered, self.answered[number] = self.answered[number], None
        if answered is None:
            return False
        self.left -= 1
        answered(msg)
        return not self.left

    def fail(self, error: PenstockError) -> None:
        loop = asyncio.get_running_loop()
        for answered in self.answered:
            if answered is not None:
                loop.call_soon(answered, error)  # what one of them raises concerns no other


class Inbox:
    """`subject` is to be subscribed with `take` as callback, while `sweep` runs as a task."""

    def __init__(self, prefix: str) -> None:
        self.subject = f"{prefix}.>"
        self._prefix = prefix
        self._skip = len(prefix) + 1
        self._keys = itertools.count()
        self._waiting: dict[str, _Waiter | _Each] = {}

    def expect(
        self, timeout: float, *, is_last: IsLast = _any, lost: bool = False
    ) -> tuple[str, asyncio.Future[list[Msg]]]:
        """A reply subject, and the future of what will come there within `timeout` seconds.

        That is one message, or all up to the one that `is_last`; what comes on subjects under it
        counts as well. Raises Timeout; with `lost` also ConnectionLost, as soon as the connection
        is.
        """
        key = str(next(self._keys))
        deadline = asyncio.get_running_loop().time() + timeout
        waiter = self._waiting[key] = _Waiter(deadline, is_last, lost=lost)
        return f"{self._prefix}.{key}", waiter.future

    def expect_each(self, answered: Sequence[Answered], timeout: float) -> str:
        """What the reply subjects of many requests begin with, followed by the request's place.

        Each of `answered` is called once: with the reply, or Timeout, or ConnectionLost.
        """
        key = str(next(self._keys))
        deadline = asyncio.get_running_loop().time() + timeout
        self._waiting[key] = _Each(deadline, answered)
        return f"{self._prefix}.{key}."

    def forget(self, reply: str) -> None:
        """Call nobody for what `expect_each` gave `reply` for."""
        self._waiting.pop(reply[self._skip : -1], None)

    async def take(self, msg: Msg) -> None:
        """Hand a reply to whoever waits for it."""
        key, _, place = msg.subject[self._skip :].partition(".")
        waiter = self._waiting.get(key)
        if waiter is not None and waiter.take(place, msg):
            self._waiting.pop(key, None)

    async def sweep(self) -> None:
        """Fail what is late, for ever. Cheaper than a timer for each."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP)
            now = loop.time()
            self._fail(
                [key for key, waiter in self._waiting.items() if waiter.deadline < now],
                lambda: Timeout("No answer came in time; the server may be down or overloaded."),
            )

    def lose(self) -> None:
        """The connection is gone, and with it the requests and answers on their way."""
        self._fail(
            [key for key, waiter in self._waiting.items() if waiter.lost],
            lambda: ConnectionLost("The connection was lost before the answer came; ask again."),
        )

    def close(self) -> None:
        """Nothing will come any more."""
        self._fail(list(self._waiting), lambda: Unavailable("The connection was closed."))

    def _fail(self, keys: list[str], error: Callable[[], PenstockError]) -> None:
        for key in keys:
            self._waiting.pop(key).fail(error())
