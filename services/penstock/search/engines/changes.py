"""Keeps vectors in memory in step with the index. Never changes the index."""

from __future__ import annotations

from collections.abc import Iterable

import apsw
import numpy as np

from penstock.search.engines.embedding import Embedder
from penstock.search.engines.stamp import check_stamp
from penstock.search.engines.vectors import PassageVectors

_Change = tuple[int, int]  # number and token

_LAST = "SELECT number, token FROM index_change ORDER BY number DESC LIMIT 1"
_KNOWN = "SELECT 1 FROM index_change WHERE number = ? AND token = ?"
_CHANGED = "SELECT DISTINCT document FROM index_change WHERE number > ?"
_ALL_VECTORS = "SELECT document, vectors FROM indexed_passages"
_CHANGED_VECTORS = f"{_ALL_VECTORS} WHERE document IN ({_CHANGED})"


class VectorFollower:
    """The passage vectors of an index, as they are in the present transaction of a connection."""

    def __init__(self, connection: apsw.Connection, embedder: Embedder) -> None:
        self.vectors = PassageVectors(embedder.dimension)
        self._connection = connection
        self._embedder = embedder
        self._seen: _Change | None = None

    def refresh(self) -> None:
        """Load what changed since the last call, or everything where that cannot be told.

        That is so at first, when the log of changes was cut behind us, and when what we saw
        was rolled back. Raises StartupError if another embedder has built the index meanwhile.
        """
        last: _Change | None = self._connection.execute(_LAST).fetchone()
        if last == self._seen:
            return
        check_stamp(self._connection, self._embedder)
        if self._seen and self._connection.execute(_KNOWN, self._seen).fetchone():
            self._load_changes(self._seen[0])
        else:
            self._seen = None
            self.vectors = PassageVectors(self._embedder.dimension)
            self._load(self._connection.execute(_ALL_VECTORS))
        self._seen = last

    def _load_changes(self, after: int) -> None:
        for (document,) in self._connection.execute(_CHANGED, (after,)):
            self.vectors.remove(document)
        self._load(self._connection.execute(_CHANGED_VECTORS, (after,)))

    def _load(self, rows: Iterable[tuple[int, bytes]]) -> None:
        for document, blob in rows:
            vectors = np.frombuffer(blob, dtype="<f4").reshape(-1, self._embedder.dimension)
            self.vectors.put(document, vectors)
