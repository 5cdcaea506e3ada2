"""The index as a view: folded from document events, asked by search queries. Never decides."""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from penstock.contracts.search import (
    DocumentState,
    Highlight,
    SearchHit,
    SearchHits,
    SearchQuery,
)
from penstock.infra.queries import Query
from penstock.infra.read_model import Folded, View
from penstock.search.engines.documents import Highlighting, Hit, IndexedDocument, IndexQuery
from penstock.search.engines.embedding import Embedder
from penstock.search.engines.sqlite import SCHEMA, SqliteIndex, SqliteSearcher


class SearchView(View[DocumentState]):
    """The embedded index, in the tables of the read model."""

    schema = SCHEMA

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._index: SqliteIndex | None = None
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

    def _written(self, db: apsw.Connection) -> SqliteIndex:
        if self._index is None:
            self._index = SqliteIndex(db, self._embedder)
        return self._index

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
