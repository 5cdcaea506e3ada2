"""Reads one inbox or channel from the log behind a position, and knows whether it is whole.

What follows a position is whole if the versions of its events, their places in the aggregate,
have no gap: a stream's sequences have gaps by nature. Never writes.
"""

from __future__ import annotations

import asyncio

import msgspec

from penstock.contracts.envelope import Envelope, decode
from penstock.contracts.errors import PenstockError
from penstock.infra.event_log import JetStreamEventLog

PAGE = 100
PAGE_BYTES = 256 * 1024
AT_ONCE = 32  # pages on their way, however many sockets come back at the same time


class Unrecoverable(PenstockError):  # noqa: N818 - errors are named for what happened
    """Events after the position are gone, or it is of another life of the stream."""

    code, title, status = "unrecoverable-position", "Unrecoverable position", 410


class Past(msgspec.Struct, frozen=True):
    """An event as the log has it."""

    sequence: int
    event: Envelope


class FeedLog:
    """The log of notifications, one feed at a time. `open` before the rest."""

    def __init__(self, log: JetStreamEventLog) -> None:
        self.epoch = ""
        self._log = log
        self._bus = log.bus
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def open(self) -> None:
        """Learn the epoch: a stream that is made anew counts from 1 again."""
        made = (await self._bus.api(f"STREAM.INFO.{self._log.stream}"))["created"]
        self.epoch = "".join(filter(str.isdecimal, made))

    async def last(self, feed: str) -> int:
        """The sequence of a feed's last event, 0 if it has none."""
        found = await self._bus.direct_get(self._log.stream, {"last_by_subj": self._subject(feed)})
        return found[0].sequence if found else 0

    async def page(self, feed: str, start: int) -> list[Past]:
        """The next events of a feed, from the sequence `start` on; none at its end."""
        request = {
            "seq": start,
            "next_by_subj": self._subject(feed),
            "batch": PAGE,
            "max_bytes": PAGE_BYTES,
        }
        async with self._turn:
            found = await self._bus.direct_get(self._log.stream, request)
        return [Past(message.sequence, decode(message.data)) for message in found]

    async def bounds(self) -> tuple[int, int]:
        """The first and the last sequence that the stream holds now."""
        state = (await self._bus.api(f"STREAM.INFO.{self._log.stream}"))["state"]
        return state["first_seq"], state["last_seq"]

    def _subject(self, feed: str) -> str:
        return self._bus.subjects.event(self._log.service, feed)


class Cursor:
    """Goes through one feed behind a position, page by page."""

    def __init__(self, log: FeedLog, feed: str, position: int) -> None:
        self.position = position
        self._log = log
        self._feed = feed
        self._version = 0 if position == 0 else None

    async def page(self) -> list[Past]:
        """The next events, none at the end. Raises Unrecoverable if one before them is gone."""
        if self._version is None:
            found = await self._anchored(await self._log.page(self._feed, self.position))
        else:
            found = await self._log.page(self._feed, self.position + 1)
        for past in found:
            if self._version is not None and past.event.version != self._version + 1:
                raise self._lost()
            self._version, self.position = past.event.version, past.sequence
        return found

    async def _anchored(self, found: list[Past]) -> list[Past]:
        """`found` without the event at the position, which tells the version to go on from.

        If the position is no event of this feed, it must at least be one that the stream still
        reaches back to.
        """
        if found and found[0].sequence == self.position:
            self._version = found[0].event.version
            return found[1:]
        first, last = await self._log.bounds()
        if not first - 1 <= self.position <= last:
            raise self._lost()
        return found

    def _lost(self) -> Unrecoverable:
        return Unrecoverable(
            f"Not everything after {self.position} is there any more; "
            "read the inbox and go on from its version.",
            position=self.position,
        )
