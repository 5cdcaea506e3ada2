"""Reading through the cache: look up, else run the factory once and store what it gives.

Never fails a read because the cache cannot be reached, and never lets an old value overtake.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from penstock.client.cache_entries import DELETED_FOR
from penstock.client.cache_flights import Flights
from penstock.client.cache_own_writes import OwnWrites
from penstock.client.cache_reader import Look, Reader, State
from penstock.client.cache_value import ValueType
from penstock.client.session import Session
from penstock.contracts.cache import Entry
from penstock.contracts.errors import InvalidMessage, TooLarge, Unavailable
from penstock.infra.bus import StreamError

log = logging.getLogger(__name__)

NOTHING: Any = object()


class CacheStats(msgspec.Struct, frozen=True, kw_only=True):
    """What this client's cache did so far.

    Lookups by outcome: `hits`; `absent`; `expired`; `stale`, which an invalidation had overtaken;
    `unreachable`. Then `runs` of factories and functions, and values `stored` and `not_stored`.
    """

    hits: int
    absent: int
    expired: int
    stale: int
    unreachable: int
    runs: int
    stored: int
    not_stored: int


_COUNTED: dict[State, str] = {
    "valid": "hits",
    "absent": "absent",
    "expired": "expired",
    "stale": "stale",
    "unknown": "unreachable",
}


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """How to make the value of a key: what is called, and what its entry is like.

    `lifetime` in seconds, None for no end.
    """

    key: str
    factory: Callable[[], Any]
    kind: ValueType
    lifetime: float | None
    tags: tuple[str, ...]


class ReadThrough:
    """Lookups, runs and fills of one client; `connect` gives it a connection."""

    def __init__(self) -> None:
        self.own = OwnWrites()
        self._flights = Flights()
        self._reader: Reader | None = None
        self._counts = dict.fromkeys(CacheStats.__struct_fields__, 0)

    def connect(self, session: Session) -> None:
        """Use this connection."""
        self._reader = Reader(session, self.own)

    async def close(self) -> None:
        """End the runs under way."""
        await self._flights.close()

    @property
    def reader(self) -> Reader:
        """Raises Unavailable before there is a connection."""
        if self._reader is None:
            raise Unavailable("The cache is not connected: use `async with Penstock() as ps`.")
        return self._reader

    def stats(self) -> CacheStats:
        """See CacheStats."""
        return CacheStats(**self._counts)

    async def get(self, key: str, kind: ValueType) -> Any:
        """The value of a valid entry, or NOTHING."""
        return self._value(await self._look(key, ()), kind)

    async def get_or_make(self, recipe: Recipe) -> Any:
        """The value of a valid entry, or of a run of the factory that began late enough."""
        look = await self._look(recipe.key, recipe.tags)
        needed = look.position
        while (value := self._value(look, recipe.kind)) is NOTHING:
            flight = self._flights.running(recipe.key)
            if flight is None:
                flight = self._flights.start(recipe.key, look.position, self._run(recipe, look))
            if flight.position.covers(needed):
                return recipe.kind.decode(await flight.result(), recipe.key)
            await flight.ended()  # it began before something that this caller may know of
            look = await self._look(recipe.key, recipe.tags)
        return value

    async def store(
        self, key: str, value: msgspec.Raw, lifetime: float | None, tags: Sequence[str]
    ) -> bool:
        """Put a value there, whatever is there; False if the cache cannot be reached.

        Raises TooLarge.
        """
        try:
            entries = self.reader.entries
            asof = self.own.position(await entries.heads(tags)).asof
            entry = Entry(key=key, asof=asof, value=value, tags=tuple(tags))
            return self._count_stored(await entries.put(entry, lifetime))
        except (Unavailable, StreamError) as error:
            return self._not_stored(key, error)

    async def _look(self, key: str, tags: Sequence[str]) -> Look:
        try:
            look = await self.reader.look(key, tags)
        except Unavailable as error:
            log.debug("the cache was passed over for %r: %s", key, error)
            look = Look("unknown", self.own.known(tags))
        self._counts[_COUNTED[look.state]] += 1
        return look

    def _value(self, look: Look, kind: ValueType) -> Any:
        entry = look.entry
        if look.state != "valid" or entry is None or not kind.reads(entry.schema):
            return NOTHING
        try:
            return kind.decode(entry.value, entry.key)
        except InvalidMessage as error:
            log.warning("a cache entry is passed over: %s", error)
            return NOTHING

    async def _run(self, recipe: Recipe, look: Look) -> msgspec.Raw:
        self._counts["runs"] += 1
        started = time.monotonic()
        value = recipe.factory()
        if inspect.isawaitable(value):
            value = await value
        body = recipe.kind.encode(value, recipe.key)
        # A deletion that the factory outlasted is forgotten, and could not stop the fill.
        if look.state != "unknown" and time.monotonic() - started < DELETED_FOR:
            await self._fill(recipe, look, body)
        return body

    async def _fill(self, recipe: Recipe, look: Look, body: msgspec.Raw) -> None:
        entry = Entry(
            key=recipe.key,
            asof=look.position.asof,
            value=body,
            tags=recipe.tags,
            schema=recipe.kind.schema,
        )
        try:
            entries = self.reader.entries
            after = look.position.revision
            self._count_stored(await entries.put(entry, recipe.lifetime, after=after))
        except (Unavailable, StreamError, TooLarge) as error:
            self._not_stored(recipe.key, error)

    def _not_stored(self, key: str, error: Exception) -> bool:
        log.warning("the cache entry %r was not stored: %s", key, error)
        return self._count_stored(False)

    def _count_stored(self, stored: bool) -> bool:
        self._counts["stored" if stored else "not_stored"] += 1
        return stored
