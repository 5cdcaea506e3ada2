"""The index as a view: folded from document events, asked by search queries. Never decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import apsw
import numpy as np

from penstock.contracts.search import (
    DocumentState,
    Highlight,
    SearchHit,
    SearchHits,
    SearchQuery,
)
from penstock.infra.queries import Query
from penstock.infra.views.comparison import Compared, Row, ordinary_tables
from penstock.infra.views.view import Folded, View
from penstock.search.engines.documents import Highlighting, Hit, IndexedDocument, IndexQuery
from penstock.search.engines.embedding import Embedder
from penstock.search.engines.sqlite import SCHEMA, SqliteIndex, SqliteSearcher


def _same_passages(one: Row, other: Row) -> bool:
    """The last digits of a vector depend on the processor and on NumPy's version."""
    try:
        here, there = (np.frombuffer(cast("bytes", row[2]), dtype="<f4") for row in (one, other))
    except (TypeError, ValueError):  # not even vectors
        return False
    return one[1] == other[1] and here.shape == there.shape and np.allclose(here, there, atol=1e-5)


NUMBERED = ("indexed_document", "indexed_passages", "indexed_field", "index_change")
BY_ID = (
    Compared(
        "indexed_document",
        "SELECT id, title, content, metadata, sequence FROM indexed_document ORDER BY id",
    ),
    Compared(
        "indexed_passages",
        "SELECT id, starts, vectors FROM indexed_passages"
        " LEFT JOIN indexed_document ON number = document ORDER BY id",
        same=_same_passages,
    ),
    Compared(
        "indexed_field",
        "SELECT id, path, kind, value, listed FROM indexed_field"
        " LEFT JOIN indexed_document ON number = document ORDER BY 1, 2, 3, 4, 5",
        keys=5,
    ),
    Compared("indexed_text", "SELECT term, doc, cnt FROM indexed_word ORDER BY term"),
)


class SearchView(View[DocumentState]):
    """The embedded index, in the tables of the read model."""

    schema = SCHEMA

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._indexes: dict[apsw.Connection, SqliteIndex] = {}
        self._searchers: dict[apsw.Connection, SqliteSearcher] = {}

    def fold(self, db: apsw.Connection, folded: Sequence[Folded[DocumentState]]) -> None:
        """See View.fold."""
        index = self._written(db)
        last = {f.event.subject: f for f in folded}
        index.delete(f.state.id for f in last.values() if f.state.deleted)
        kept = [_indexed(f) for f in last.values() if not f.state.deleted]
        if kept:
            index.put(kept)

    def forget(self, db: apsw.Connection, ids: Sequence[str]) -> None:
        """See View.forget."""
        index = self._written(db)
        index.delete(ids)
        index.compact()

    def compared(self, db: apsw.Connection) -> list[Compared]:
        """See View.compared. A document's number is another in each fold: its id stands for it."""
        return [*ordinary_tables(db, but=NUMBERED), *BY_ID]

    def release(self, db: apsw.Connection) -> None:
        """See View.release: the vectors of every passage hang on a searcher."""
        self._indexes.pop(db, None)
        self._searchers.pop(db, None)

    def _written(self, db: apsw.Connection) -> SqliteIndex:
        index = self._indexes.get(db)
        if index is None:
            index = self._indexes[db] = SqliteIndex(db, self._embedder)
        return index

    def search(self, db: apsw.Connection, query: SearchQuery) -> SearchHits:
        """Answer a query on a reader's connection, which keeps its vectors from query to query."""
        searcher = self._searchers.get(db)
        if searcher is None:
            searcher = self._searchers[db] = SqliteSearcher(db, self._embedder)
        found = searcher.search(_index_query(query))
        return SearchHits(hits=tuple(map(_hit, found.hits)), total=found.total)

    def queries(self) -> list[Query[SearchQuery]]:
        """What can be asked, over NATS and HTTP."""
        return [
            Query(
                name="search",
                path="/search",
                method="POST",
                params=SearchQuery,
                returns=SearchHits,
                read=self.search,
                summary="Documents found by words and by meaning, best first",
            )
        ]


def _indexed(folded: Folded[DocumentState]) -> IndexedDocument:
    state = folded.state
    return IndexedDocument(
        id=state.id,
        title=state.title,
        content=state.content,
        metadata=state.metadata,
        sequence=folded.sequence,
    )


def _index_query(query: SearchQuery) -> IndexQuery:
    return IndexQuery(
        text=query.query,
        limit=query.limit,
        offset=query.offset,
        threshold=query.threshold,
        hybrid=query.hybrid,
        alpha=query.alpha,
        filters=query.filters,
        highlighting=Highlighting(fragments=query.fragments) if query.fragments else None,
    )


def _hit(hit: Hit) -> SearchHit:
    return SearchHit(
        id=hit.document.id,
        title=hit.document.title,
        content=hit.document.content,
        metadata=hit.document.metadata,
        relevance=hit.relevance,
        score=hit.score,
        keyword=hit.keyword,
        similarity=hit.similarity,
        highlights=tuple(
            Highlight(text=f.text, start=f.start, ranges=f.ranges, marked=f.marked)
            for f in hit.fragments
        ),
    )
