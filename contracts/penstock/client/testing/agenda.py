"""What is to happen at which virtual time, in order. Never does any of it."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Literal, NamedTuple

Kind = Literal["run", "due", "tick", "expires", "unhandled", "gate"]
RANKS: dict[Kind, int] = {"tick": 0, "due": 1, "gate": 2, "run": 3, "expires": 4, "unhandled": 5}


class Due(NamedTuple):
    """The aggregate `id` is to be looked at, if `sequence` is still that of its last event.

    Of what is due `at` the same time the lower `rank` goes first, and then whatever was put
    earlier.
    """

    at: datetime
    rank: tuple[int, int]
    order: int
    sequence: int
    id: str
    kind: Kind


class Agenda:
    """All that is still to come."""

    def __init__(self) -> None:
        self._due: list[Due] = []
        self._order = 0

    def put(self, at: datetime, kind: Kind, id: str, sequence: int = 0, priority: int = 0) -> None:
        """Have it come at a time; of what runs then, the highest `priority` first."""
        self._order += 1
        due = Due(at, (RANKS[kind], -priority), self._order, sequence, id, kind)
        heapq.heappush(self._due, due)

    def next_until(self, end: datetime) -> Due | None:
        """Take what comes first, if it does by `end`."""
        if self._due and self._due[0].at <= end:
            return heapq.heappop(self._due)
        return None

    def times(self, ids: Collection[str]) -> list[datetime]:
        """When any of these aggregates is to be looked at."""
        return [due.at for due in self._due if due.id in ids]

    def put_back(self, dues: Iterable[Due]) -> None:
        """Have what was taken come after all, in its former place."""
        for due in dues:
            heapq.heappush(self._due, due)
