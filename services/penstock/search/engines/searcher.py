"""Searches the embedded index over one connection. Never changes the index."""

from __future__ import annotations

import threading
from typing import NamedTuple

import apsw
import msgspec
import numpy as np
from msgspec import structs

from penstock.search.engines.changes import VectorFollower
from penstock.search.engines.documents import Hit, Hits, IndexedDocument, IndexQuery
from penstock.search.engines.embedding import Embedder, Vectors
from penstock.search.engines.filters import Condition, condition
from penstock.search.engines.fusion import Legs, Positions, Scores, leading
from penstock.search.engines.highlights import highlight
from penstock.search.engines.keyword import Mask, Numbers, keyword_scores
from penstock.search.engines.stamp import check_stamp
from penstock.search.engines.words import Term, Tokenizer, terms

_DOCUMENT = "SELECT id, title, content, metadata, sequence FROM indexed_document"
_decode_metadata = msgspec.json.Decoder(dict).decode
_decode_numbers = msgspec.json.Decoder(list[int]).decode


class _Asked(NamedTuple):
    """A query, understood. `vector` is None where meaning is not asked for."""

    query: IndexQuery
    terms: tuple[Term, ...]
    vector: Vectors | None
    condition: Condition


class _Ranking(NamedTuple):
    """How each document of the index does, at its position in `numbers`."""

    numbers: Numbers
    legs: Legs
    score: Scores
    relevance: Scores


class _Found(NamedTuple):
    """A hit before its fragments; `passage` is the character where its best passage starts."""

    hit: Hit
    passage: int = 0


class SqliteSearcher:
    """The reading side of an index, on a connection that nobody else uses meanwhile.

    Give each connection a searcher of its own, and keep it: it holds the vectors of all passages,
    4 bytes a dimension, and loads before a search only what changed since the last one. It may be
    called from any thread, and answers one call at a time. Within a transaction it sees what that
    sees.
    """

    def __init__(self, connection: apsw.Connection, embedder: Embedder) -> None:
        """Raises StartupError if the index was built with another embedder."""
        check_stamp(connection, embedder)
        self._connection = connection
        self._embedder = embedder
        self._follower = VectorFollower(connection, embedder)
        self._tokenizer = Tokenizer()
        self._lock = threading.Lock()

    def get(self, id: str) -> IndexedDocument | None:
        """The document by that id."""
        with self._lock:
            row = self._connection.execute(f"{_DOCUMENT} WHERE id = ?", (id,)).fetchone()
        return _document(row) if row else None

    def count(self) -> int:
        """How many documents there are."""
        with self._lock:
            count: int = self._connection.execute("SELECT count(*) FROM indexed_document").get
        return count

    def search(self, query: IndexQuery) -> Hits:
        """A page of the documents that `query` asks for.

        Filters come first: they decide which documents are ranked at all. The order is that of
        relative score fusion, ties by id, and does not depend on the page. Raises InvalidMessage
        for what cannot be asked.
        """
        asked = self._understood(query)
        with self._lock, self._connection:  # a savepoint, so that all of it sees one state
            find = self._ranked if query.text.strip() else self._listed
            found, total = find(asked)
        return Hits(hits=tuple(self._shown(hit, asked) for hit in found), total=total)

    def _understood(self, query: IndexQuery) -> _Asked:
        query.check()
        vector = None
        if query.text.strip() and query.weight_of_meaning:
            vector = self._embedder.embed([query.text])[0]
        return _Asked(query, terms(query.text, self._tokenizer), vector, condition(query.filters))

    def _listed(self, asked: _Asked) -> tuple[list[_Found], int]:
        query, (where, bindings) = asked.query, asked.condition
        rows = self._connection.execute(
            f"{_DOCUMENT} WHERE {where} ORDER BY id LIMIT ? OFFSET ?",
            (*bindings, query.limit, query.offset),
        )
        found = [_Found(Hit(document=_document(row), score=1.0, relevance=1.0)) for row in rows]
        counting = f"SELECT count(*) FROM indexed_document WHERE {where}"
        total: int = self._connection.execute(counting, bindings).get
        return found, total

    def _ranked(self, asked: _Asked) -> tuple[list[_Found], int]:
        self._follower.refresh()
        ranking = self._ranking(asked)
        relevant = ranking.relevance >= asked.query.threshold
        kept = np.flatnonzero(relevant & (ranking.relevance > 0))
        page = self._page(ranking, kept, asked.query)
        return [self._found(ranking, at, asked.vector) for at in page], len(kept)

    def _ranking(self, asked: _Asked) -> _Ranking:
        vectors, weight = self._follower.vectors, asked.query.weight_of_meaning
        numbers = vectors.numbers
        allowed = self._allowed(numbers, asked)
        keyword = share = similarity = np.zeros(len(numbers))
        if weight < 1:
            keyword, share = keyword_scores(self._connection, asked.terms, numbers, allowed)
        if asked.vector is not None:
            similarity = np.where(allowed, vectors.similarity(asked.vector).clip(0, 1), 0)
        legs = Legs(keyword, share, similarity)
        return _Ranking(numbers, legs, legs.fused(weight), legs.relevance())

    def _allowed(self, numbers: Numbers, asked: _Asked) -> Mask:
        if not asked.query.filters:
            return np.ones(len(numbers), dtype=bool)
        where, bindings = asked.condition
        sql = f"SELECT json_group_array(number) FROM indexed_document WHERE {where}"
        passed: str = self._connection.execute(sql, bindings).get
        return np.isin(numbers, np.array(_decode_numbers(passed), dtype=np.int64))

    def _page(self, ranking: _Ranking, kept: Positions, query: IndexQuery) -> list[int]:
        end = query.offset + query.limit
        best = kept[leading(ranking.score[kept], end)]
        if not len(best):
            return []
        ids = dict(
            self._connection.execute(
                "SELECT number, id FROM indexed_document "
                "WHERE number IN (SELECT value FROM carray(?))",
                (apsw.carray(ranking.numbers[best]),),
            )
        )
        best_first = sorted(
            best.tolist(), key=lambda at: (-ranking.score[at], ids[int(ranking.numbers[at])])
        )
        return best_first[query.offset : end]

    def _found(self, ranking: _Ranking, at: int, vector: Vectors | None) -> _Found:
        number = int(ranking.numbers[at])
        row = self._connection.execute(f"{_DOCUMENT} WHERE number = ?", (number,)).get
        hit = Hit(
            document=_document(row),
            score=float(ranking.score[at]),
            relevance=float(ranking.relevance[at]),
            keyword=float(ranking.legs.share[at]),
            similarity=float(ranking.legs.similarity[at]),
        )
        return _Found(hit, 0 if vector is None else self._passage(number, vector))

    def _passage(self, number: int, vector: Vectors) -> int:
        sql = "SELECT starts FROM indexed_passages WHERE document = ?"
        starts = np.frombuffer(self._connection.execute(sql, (number,)).get, dtype="<i8")
        return int(starts[self._follower.vectors.nearest_passage(number, vector)])

    def _shown(self, found: _Found, asked: _Asked) -> Hit:
        options = asked.query.highlighting
        if options is None:
            return found.hit
        fragments = highlight(
            found.hit.document.content,
            asked.terms,
            self._tokenizer,
            options,
            otherwise=found.passage,
        )
        return structs.replace(found.hit, fragments=fragments)


def _document(row: tuple[str, str | None, str, str, int]) -> IndexedDocument:
    id, title, content, metadata, sequence = row
    return IndexedDocument(
        id=id,
        title=title,
        content=content,
        metadata=_decode_metadata(metadata),
        sequence=sequence,
    )
