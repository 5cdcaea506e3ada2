"""The last event of each aggregate, remembered for those used lately. Never any I/O."""

from __future__ import annotations

from collections import OrderedDict

import msgspec

KEPT = 100_000


class Head(msgspec.Struct, frozen=True):
    """An aggregate's last event: its version and stream sequence (None, 0: it has none)."""

    version: int | None = None
    sequence: int = 0


NONE = Head()


class Heads:
    """What is remembered may be behind the stream, and never goes back."""

    def __init__(self) -> None:
        self._heads: OrderedDict[str, Head] = OrderedDict()

    def get(self, id: str) -> Head | None:
        """The head, if it is remembered."""
        return self._heads.get(id)

    def put(self, id: str, head: Head) -> None:
        """Remember it, unless a later one is: with replicas, a read may be from one behind."""
        if head.sequence >= self._heads.get(id, NONE).sequence:
            self._heads[id] = head
            self._heads.move_to_end(id)
            if len(self._heads) > KEPT:
                self._heads.popitem(last=False)

    def forget(self, id: str) -> None:
        """Look again next time."""
        self._heads.pop(id, None)
