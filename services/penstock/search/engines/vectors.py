"""Vectors of all passages in memory, compared exactly. Never reads where they come from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penstock.search.engines.embedding import Vectors
from penstock.search.engines.fusion import Scores

FIRST_CAPACITY = 1_024

_FREE = -1

Rows = NDArray[np.int64]


class _Layout(NamedTuple):
    numbers: NDArray[np.int64]  # documents in order
    rows: Rows  # rows in the order of their documents
    firsts: Rows  # where each document begins in `rows`


class PassageVectors:
    """Vectors of length 1, several for each document, which is known by a number.

    A matrix that grows by doubling; the rows of a removed document are used again.
    Not safe to use from several threads at once.
    """

    def __init__(self, dimension: int) -> None:
        self._matrix: Vectors = np.zeros((FIRST_CAPACITY, dimension), dtype=np.float32)
        self._owners = np.full(FIRST_CAPACITY, _FREE, dtype=np.int64)
        self._used = 0  # no row from here on was ever used
        self._free: list[int] = []
        self._rows: dict[int, Rows] = {}
        self._layout: _Layout | None = None

    def put(self, number: int, vectors: Vectors) -> None:
        """Replace what document `number` has by `vectors`, a row for each passage, at least one."""
        self.remove(number)
        rows = self._take(len(vectors))
        self._matrix[rows] = vectors
        self._owners[rows] = number
        self._rows[number] = rows

    def remove(self, number: int) -> None:
        """Forget document `number`, if it is known."""
        self._layout = None
        rows = self._rows.pop(number, None)
        if rows is not None:
            self._owners[rows] = _FREE
            self._free.extend(rows.tolist())

    @property
    def numbers(self) -> NDArray[np.int64]:
        """The documents, in order."""
        return self._laid_out().numbers

    def similarity(self, vector: Vectors) -> Scores:
        """The cosine between `vector` and the nearest passage of each document in `numbers`."""
        _, rows, firsts = self._laid_out()
        if not len(rows):
            return np.zeros(0)
        # Row by row: in a product of matrices the last digit of a sum depends on the row's place,
        # and equal texts would not tie.
        cosines = np.vecdot(self._matrix[: self._used], vector)[rows]
        return np.maximum.reduceat(cosines, firsts).astype(np.float64)

    def nearest_passage(self, number: int, vector: Vectors) -> int:
        """Which passage of document `number` is nearest to `vector`, from 0."""
        return int(np.argmax(np.vecdot(self._matrix[self._rows[number]], vector)))

    def _laid_out(self) -> _Layout:
        if self._layout is None:
            owners = self._owners[: self._used]
            rows = np.argsort(owners, kind="stable")[np.count_nonzero(owners == _FREE) :]
            owned = owners[rows]
            firsts = np.flatnonzero(np.diff(owned, prepend=_FREE))
            self._layout = _Layout(owned[firsts], rows, firsts)
        return self._layout

    def _take(self, count: int) -> Rows:
        again = [self._free.pop() for _ in range(min(count, len(self._free)))]
        fresh = range(self._used, self._used + count - len(again))
        self._used += len(fresh)
        while self._used > len(self._owners):
            self._grow()
        return np.array([*again, *fresh], dtype=np.int64)

    def _grow(self) -> None:
        capacity = len(self._owners)
        self._matrix = np.concatenate([self._matrix, np.zeros_like(self._matrix)])
        self._owners = np.concatenate([self._owners, np.full(capacity, _FREE, dtype=np.int64)])
