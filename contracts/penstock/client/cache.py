"""`ps.cache`: values by key, let go by tag. Never serves what an invalidation has overtaken.

A cache that cannot be reached does not fail a read: the factory runs instead.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar, cast, overload

import msgspec

from penstock.client.cache_function import CachedFunction, Call, P
from penstock.client.cache_read_through import NOTHING, CacheStats, ReadThrough, Recipe
from penstock.client.cache_reader import State
from penstock.client.cache_value import returned_by, value_type
from penstock.client.session import Session
from penstock.contracts.answers import HistoryEntry
from penstock.contracts.cache import SERVICE, InvalidateTag, checked_key, checked_tags
from penstock.contracts.errors import InvalidMessage, NotFound, Unavailable

T = TypeVar("T")
Lifetime = float | timedelta | None
MAX_LIFETIME = 100 * 365 * 86400.0  # seconds


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why a key gives what it gives; `invalidations` are the events that made its entry stale."""

    key: str
    state: State
    asof: int = 0
    tags: tuple[str, ...] = ()
    deadline: float | None = None
    invalidations: tuple[HistoryEntry, ...] = ()


class Cache:
    """Values by key, for as long as none of their tags is invalidated and `ttl` is not over.

    It may decorate functions before the client is connected. `ttl` is in seconds, or a timedelta;
    None keeps the value until it is invalidated. Values are stored as MessagePack: plain data,
    dates, dataclasses and msgspec Structs, up to 1 MB. What is read is of the type that `returns`
    or the factory's return annotation tells, else plain data; on a miss just as on a hit.
    """

    def __init__(self) -> None:
        self._session: Session | None = None
        self._through = ReadThrough()

    def connect(self, session: Session) -> None:
        """Use this connection; `Penstock` does it."""
        self._session = session
        self._through.connect(session)

    async def close(self) -> None:
        """End the runs under way; whoever waits for one gets Unavailable."""
        await self._through.close()

    async def get(self, key: str, default: Any = None, *, returns: Any = Any) -> Any:
        """The value of `key`, or `default` if there is none or the cache cannot be reached.

        Two round trips for an entry with tags. `returns` is the type to read it as; an entry of
        another type counts as none. Raises InvalidMessage for an impossible key.
        """
        value = await self._through.get(checked_key(key), value_type(returns))
        return default if value is NOTHING else value

    async def set(
        self, key: str, value: Any, *, ttl: Lifetime = None, tags: Sequence[str] = ()
    ) -> bool:
        """Store a value, whatever is there; False, and logged, if the cache cannot be reached.

        The value counts as computed now. One that was read before, and may have been invalidated
        in between, is stored safely only by `get_or_set`. Raises InvalidMessage, or TooLarge.
        """
        body = value_type(Any).encode(value, checked_key(key))
        return await self._through.store(key, body, _seconds(ttl), checked_tags(tags))

    async def delete(self, key: str) -> None:
        """Let go of one key. A value computed before is not stored after it.

        Raises Unavailable or Timeout: the entry may then still be there.
        """
        await self._through.reader.entries.remove(checked_key(key))

    @overload
    async def get_or_set(
        self,
        key: str,
        factory: Callable[[], Awaitable[T]],
        *,
        ttl: Lifetime = None,
        tags: Sequence[str] = (),
        returns: Any = None,
    ) -> T: ...

    @overload
    async def get_or_set(
        self,
        key: str,
        factory: Callable[[], T],
        *,
        ttl: Lifetime = None,
        tags: Sequence[str] = (),
        returns: Any = None,
    ) -> T: ...

    async def get_or_set(
        self,
        key: str,
        factory: Callable[[], Any],
        *,
        ttl: Lifetime = None,
        tags: Sequence[str] = (),
        returns: Any = None,
    ) -> Any:
        """The value of `key`, else what `factory` gives, which is then stored.

        A hit costs one round trip. The factory runs once at a time for a key and process, and goes
        on if a caller is cancelled; its exception reaches all who wait and is not stored. What an
        invalidation overtakes while it runs is returned, but is no valid entry. If the cache cannot
        be reached the factory runs and nothing is stored; a value of more than 1 MB is returned and
        not stored. Raises InvalidMessage for a value that has no stored form.
        """
        recipe = Recipe(
            key=checked_key(key),
            factory=factory,
            kind=returned_by(factory) if returns is None else value_type(returns),
            lifetime=_seconds(ttl),
            tags=checked_tags(tags),
        )
        return await self._through.get_or_make(recipe)

    def cached(
        self, prefix: str, *, ttl: Lifetime = None, tags: Sequence[str] = (), version: int = 1
    ) -> Callable[[Callable[P, Awaitable[T]]], CachedFunction[P, T]]:
        """Cache the results of an async function, by its arguments.

        The key is made of `prefix`, the function's name, `version`, the type of its result and the
        arguments, whether passed by position or by name: plain data, UUIDs, dates, enumerations and
        collections of these; others raise InvalidMessage. Tags may name arguments, as
        `"user:{user_id}"`. Raise `version` when the function comes to mean something else.
        """
        lifetime = _seconds(ttl)

        def decorate(function: Callable[P, Awaitable[T]]) -> CachedFunction[P, T]:
            call = Call(function, prefix, tags, version)

            @functools.wraps(function)
            async def cached(*args: P.args, **kwargs: P.kwargs) -> Any:
                arguments = call.bound(*args, **kwargs)
                recipe = Recipe(
                    key=checked_key(call.key(arguments)),
                    factory=lambda: function(*args, **kwargs),
                    kind=call.returns,
                    lifetime=lifetime,
                    tags=checked_tags(call.tags(arguments)),
                )
                return await self._through.get_or_make(recipe)

            wrapped: Any = cached
            wrapped.key = lambda *args, **kwargs: call.key(call.bound(*args, **kwargs))
            return cast(CachedFunction[P, T], wrapped)

        return decorate

    async def invalidate(self, tags: Sequence[str], *, reason: str | None = None) -> int:
        """Let go of every entry with any of these tags; the sequence of the last event.

        One event for each tag, however many entries carry it. Raises Unavailable, or Timeout if the
        cache service does not run: the invalidation is then stored and happens when it does.
        """
        session, wanted = self._connected(), checked_tags(tags)
        if not wanted:
            raise InvalidMessage("Name at least one tag to invalidate.")
        command = InvalidateTag(reason=reason)
        outcomes = await asyncio.gather(*(session.command(command, id=tag) for tag in wanted))
        for tag, outcome in zip(wanted, outcomes, strict=True):
            self._through.own.invalidated(tag, outcome.sequence)
        return max(outcome.sequence for outcome in outcomes)

    async def why(self, key: str) -> Explanation:
        """Whether `key` has a valid entry, and what made it stale: who, why, when.

        Raises Unavailable: this asks the cache service.
        """
        look = await self._through.reader.look(checked_key(key), ())
        entry = look.entry
        if entry is None:
            return Explanation(key=key, state=look.state)
        histories = await asyncio.gather(*(self._since(tag, entry.asof) for tag in entry.tags))
        events = [event for history in histories for event in history]
        return Explanation(
            key=key,
            state=look.state,
            asof=entry.asof,
            tags=entry.tags,
            deadline=entry.deadline,
            invalidations=tuple(sorted(events, key=lambda event: event.sequence)),
        )

    def stats(self) -> CacheStats:
        """Counts since this client was made."""
        return self._through.stats()

    def changed(self, tags: Sequence[str], sequence: int) -> None:
        """This client published a change that concerns `tags`: its next reads reflect it."""
        self._through.own.changed(tags, sequence)

    async def _since(self, tag: str, asof: int) -> list[HistoryEntry]:
        try:
            history = await self._connected().history(SERVICE, tag)
        except NotFound:
            return []
        return [event for event in history if event.sequence > asof]

    def _connected(self) -> Session:
        if self._session is None:
            raise Unavailable("The cache is not connected: use `async with Penstock() as ps`.")
        return self._session


def _seconds(ttl: Lifetime) -> float | None:
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    if seconds is not None and not 0 < seconds < MAX_LIFETIME:
        raise InvalidMessage(
            f"ttl={ttl!r} is no lifetime: pass seconds or a timedelta above 0, or None for no end."
        )
    return seconds
