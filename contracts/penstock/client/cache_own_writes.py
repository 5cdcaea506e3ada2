"""What this client itself invalidated and changed, so that its next read reflects it.

Never asks anybody: it compares what it remembers with the heads that it is shown.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from penstock.client.cache_entries import Head, Heads
from penstock.client.cache_flights import Position

REMEMBERED = 10_000  # tags; of those before, this client sees its own writes as others do


class OwnWrites:
    """By tag: the last invalidation, and the last change that is perhaps not applied yet."""

    def __init__(self) -> None:
        self._invalidated: OrderedDict[str, int] = OrderedDict()
        self._changed: OrderedDict[str, int] = OrderedDict()
        self._passed_over: set[str] = set()

    def invalidated(self, tag: str, sequence: int) -> None:
        """This client invalidated `tag`, at `sequence` of the cache's events."""
        _raise(self._invalidated, tag, sequence)

    def changed(self, tags: Iterable[str], sequence: int) -> None:
        """This client published a change of `tags`, at `sequence` of the changes."""
        for tag in tags:
            _raise(self._changed, tag, sequence)
            self._passed_over.discard(tag)
        self._passed_over &= self._changed.keys()

    def sequences(self, heads: Heads) -> dict[str, int]:
        """The last invalidation of each tag, by its head or by what this client knows better.

        A replica may answer from before a write that was acknowledged elsewhere.
        """
        known = self._invalidated
        return {tag: max(head.sequence, known.get(tag, 0)) for tag, head in heads.items()}

    def awaited(self, heads: Heads) -> dict[str, int]:
        """Tags of `heads` that do not reflect this client's own changes yet, with the change.

        What a head reflects is forgotten: it will be reflected for ever.
        """
        if not self._changed:
            return {}
        found = {tag: self._changed[tag] for tag in heads if tag in self._changed}
        for tag in [tag for tag, change in found.items() if heads[tag].reflects >= change]:
            del self._changed[tag], found[tag]
        return found

    def pass_over(self, tags: Iterable[str]) -> None:
        """Do not wait for these again: their changes were not applied in time."""
        self._passed_over.update(tags)

    def is_worth_waiting(self, tags: Iterable[str]) -> bool:
        """Whether none of the tags was waited for in vain."""
        return self._passed_over.isdisjoint(tags)

    def known(self, tags: Iterable[str]) -> Position:
        """The least recent that a value with these tags may be, by what this client knows."""
        return self.position(dict.fromkeys(tags, Head()))

    def position(self, heads: Heads, revision: int = 0) -> Position:
        """The least recent that a value with the tags of `heads` may be."""
        return Position(
            asof=max(self.sequences(heads).values(), default=0),
            change=max((self._changed.get(tag, 0) for tag in heads), default=0),
            revision=revision,
        )


def _raise(known: OrderedDict[str, int], tag: str, sequence: int) -> None:
    known[tag] = max(sequence, known.get(tag, 0))
    known.move_to_end(tag)
    if len(known) > REMEMBERED:
        known.popitem(last=False)
