"""Looks a key up and proves what it finds: the entry, its tags' heads, one's own writes.

Never runs a factory and never writes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from typing import Literal

import msgspec

from penstock.client.cache_entries import Entries, Found, Heads
from penstock.client.cache_flights import Position
from penstock.client.cache_own_writes import OwnWrites
from penstock.client.session import Session
from penstock.contracts.answers import ById
from penstock.contracts.cache import SERVICE, Entry, TagState
from penstock.contracts.errors import NotFound, Unavailable

APPLIED_WITHIN = 1.0  # seconds to wait for an own change, before the cache is passed over for it
State = Literal["valid", "stale", "expired", "absent", "unknown"]


class Look(msgspec.Struct, frozen=True):
    """What a lookup found; `unknown` if the cache could not be asked.

    `position` was taken before this returns: a value computed from now on is at least as recent.
    """

    state: State
    position: Position
    entry: Entry | None = None


class Reader:
    """Lookups over one connection, reflecting what this client itself wrote."""

    def __init__(
        self, session: Session, own: OwnWrites, clock: Callable[[], float] = time.time
    ) -> None:
        self.entries = Entries(session.bus)
        self._session = session
        self._own = own
        self._clock = clock

    async def look(self, key: str, tags: Collection[str]) -> Look:
        """Look up `key`; `tags` are those that a new entry would have. Raises Unavailable.

        One round trip if the entry has no other tags than these, else two.
        """
        found, heads = await self._find(key, tags)
        heads, reflects = await self._own_reflected(heads)
        sequences = self._own.sequences(heads)
        entry = found.entry
        if entry is None:
            state: State = "absent"
        elif entry.is_expired(self._clock()):
            state = "expired"
        else:
            state = "valid" if reflects and entry.is_valid(sequences) else "stale"
        return Look(state, self._own.position(heads, found.revision), entry)

    async def _find(self, key: str, tags: Collection[str]) -> tuple[Found, Heads]:
        if tags:
            # Side by side: whichever is read first, the entry was valid at the heads' time.
            found, heads = await asyncio.gather(self.entries.find(key), self.entries.heads(tags))
        else:
            found, heads = await self.entries.find(key), {}
        if found.entry is not None:
            heads |= await self.entries.heads(set(found.entry.tags) - heads.keys())
        return found, heads

    async def _own_reflected(self, heads: Heads) -> tuple[Heads, bool]:
        """The heads, once they reflect this client's own changes; False if they do not in time."""
        awaited = self._own.awaited(heads)
        if not awaited or not self._own.is_worth_waiting(awaited):
            return heads, not awaited
        try:
            async with asyncio.timeout(APPLIED_WITHIN):
                await asyncio.gather(
                    *(self._applied(tag, heads[tag].sequence, awaited[tag]) for tag in awaited)
                )
        except (TimeoutError, Unavailable, NotFound):
            self._own.pass_over(awaited)
            return heads, False
        heads = await self.entries.heads(heads.keys())
        return heads, not self._own.awaited(heads)

    async def _applied(self, tag: str, head: int, change: int) -> None:
        """Wait until the cache service has invalidated `tag` because of `change`."""
        while True:
            question = ById(id=tag, after=head, wait=APPLIED_WITHIN)
            state, answer = await self._session.ask(SERVICE, "get", question, TagState)
            if state.reflects >= change:
                return
            head = answer.revision
