"""`ps.cache` in memory: values live by the virtual clock and by their tags. Never leaves it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from penstock.client.cache import Cache
from penstock.client.cache_read_through import NOTHING, ReadThrough, Recipe
from penstock.client.cache_value import ValueType
from penstock.client.testing.absent import stand_in
from penstock.client.testing.session import MemorySession
from penstock.contracts.cache import SERVICE, checked_key


class Kept(msgspec.Struct, frozen=True):
    """A value, until when, and the last invalidation of each of its tags before it was made."""

    value: msgspec.Raw
    schema: str
    until: datetime | None
    tags: dict[str, int]


class MemoryThrough(ReadThrough):
    """Lookups and fills; a factory runs for each caller that finds nothing."""

    def __init__(self, session: MemorySession) -> None:
        super().__init__()
        self._reader = stand_in("ps.cache")
        self._session = session
        self.kept: dict[str, Kept] = {}

    async def get(self, key: str, kind: ValueType) -> Any:
        """The value of a valid entry, or NOTHING."""
        kept = self.kept.get(key)
        if kept is None:
            return self._missed("absent")
        if kept.until is not None and kept.until <= self._session.clock():
            return self._missed("expired")
        if kept.tags != self._invalidated(list(kept.tags)):
            return self._missed("stale")
        if not kind.reads(kept.schema):
            return self._missed("absent")
        self._counts["hits"] += 1
        return kind.decode(kept.value, key)

    async def get_or_make(self, recipe: Recipe) -> Any:
        """The value of a valid entry, or of a run of the factory."""
        value = await self.get(recipe.key, recipe.kind)
        if value is not NOTHING:
            return value
        tags = self._invalidated(recipe.tags)
        self._counts["runs"] += 1
        made = recipe.factory()
        if inspect.isawaitable(made):
            made = await made
        body = recipe.kind.encode(made, recipe.key)
        self._keep(recipe.key, Kept(body, recipe.kind.schema, self._until(recipe.lifetime), tags))
        return recipe.kind.decode(body, recipe.key)

    async def store(
        self, key: str, value: msgspec.Raw, lifetime: float | None, tags: Sequence[str]
    ) -> bool:
        """Put a value there, whatever is there."""
        self._keep(key, Kept(value, "", self._until(lifetime), self._invalidated(tags)))
        return True

    def _keep(self, key: str, kept: Kept) -> None:
        self.kept[key] = kept
        self._counts["stored"] += 1

    def _until(self, lifetime: float | None) -> datetime | None:
        return None if lifetime is None else self._session.clock() + timedelta(seconds=lifetime)

    def _invalidated(self, tags: Sequence[str]) -> dict[str, int]:
        log = self._session.logs[SERVICE]
        return {tag: log.sequence(tag) for tag in tags}

    def _missed(self, why: str) -> Any:
        self._counts[why] += 1
        return NOTHING


class MemoryCache(Cache):
    """See Cache; `why` is not there."""

    def __init__(self, session: MemorySession) -> None:
        super().__init__()
        self._session = session
        self._memory = self._through = MemoryThrough(session)

    async def delete(self, key: str) -> None:
        """Let go of one key."""
        self._memory.kept.pop(checked_key(key), None)
