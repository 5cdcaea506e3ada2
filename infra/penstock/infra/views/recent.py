"""Remembers what was used lately, so much and no more. Never asks anybody for what it forgot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """At most `most` entries, and at least half as many of those that were put last.

    Two generations, of which the older one is forgotten as a whole: an order of all entries would
    cost with each that is put.
    """

    def __init__(self, most: int) -> None:
        self._half = most // 2
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        """What was put under `key`, or None if that was long ago or never."""
        found = self._young.get(key)
        return self._old.get(key) if found is None else found

    def put(self, entries: Mapping[K, V]) -> None:
        """Remember each."""
        self._young.update(entries)
        if len(self._young) >= self._half:
            self._old, self._young = self._young, {}

    def drop(self, key: K) -> None:
        """Forget one."""
        self._young.pop(key, None)
        self._old.pop(key, None)

    def clear(self) -> None:
        """Forget all."""
        self._young, self._old = {}, {}
