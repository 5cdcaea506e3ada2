"""Asks the search service about the files of a run. Never ranks anything itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from penstock.client import Penstock, SearchHit, SearchQuery

BEST = 5
LEAST = 0.25  # relevance below which a passage has little to do with a query


class Found(msgspec.Struct, frozen=True):
    """A passage that fits: where it is, how well it fits, and its text with the words marked."""

    where: str
    relevance: float
    text: str
    marks: tuple[tuple[int, int], ...]


class _Searched(Protocol):
    @property
    def words(self) -> list[str]: ...


def default_query(results: Sequence[_Searched]) -> str:
    """What these files speak of most: the word that most of them use often."""
    counted = Counter(word for result in results for word in result.words)
    return max(counted, key=lambda word: (counted[word], len(word))) if counted else ""


async def best_hits(ps: Penstock, query: str, keys: Sequence[str]) -> list[Found]:
    """The passages of the files `keys` that fit `query` best, best first."""
    asked = SearchQuery(
        query=query,
        limit=BEST,
        threshold=LEAST,
        hybrid=True,
        filters={"key": {"in": list(keys)}},
    )
    found = await ps.search.search(asked)
    return [_found(hit) for hit in found.hits]


def _found(hit: SearchHit) -> Found:
    piece = hit.highlights[0]
    return Found(_where(hit.metadata), hit.relevance, piece.text, piece.ranges)


def _where(metadata: dict[str, Any]) -> str:
    name = str(metadata["file"]).rpartition("/")[2]
    if "start" in metadata:
        minutes, seconds = divmod(float(metadata["start"]), 60)
        return f"{name} at {int(minutes)}:{seconds:04.1f}"
    return f"{name}:{metadata['line']}" if "line" in metadata else name
