"""The embedded engine: text, words, vectors and metadata in the tables of one SQLite database.

Writes within the transaction of whoever opened the database. Never commits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from penstock.search.engines.documents import IndexedDocument
from penstock.search.engines.embedding import Vectors
from penstock.search.engines.filters import field_rows
from penstock.search.engines.passages import Span, passages
from penstock.search.engines.schema import SCHEMA
from penstock.search.engines.searcher import SqliteSearcher
from penstock.search.engines.stamp import stamp

__all__ = ["SCHEMA", "SqliteIndex", "SqliteSearcher"]

TEXTS_AT_ONCE = 256  # embedded in one call
CHANGES_KEPT = 50_000  # a searcher that is further behind loads everything, at about the same cost

_DOCUMENT = """
INSERT INTO indexed_document (id, title, content, metadata, sequence) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET title = excluded.title, content = excluded.content,
    metadata = excluded.metadata, sequence = excluded.sequence
RETURNING number
"""


class SqliteIndex(SqliteSearcher):
    """The index of a service, on the connection that writes it.

    `SCHEMA` must have been executed. Nothing here begins or commits a transaction: what was put
    is seen by others, and kept, when the caller's transaction is.
    """

    def put(self, documents: Sequence[IndexedDocument]) -> None:
        """Add `documents`, each in place of the one by its id; of two by one id the last counts.

        Raises StartupError if the index was built with another embedder.
        """
        stamp(self._connection, self._embedder)
        for at in range(0, len(documents), TEXTS_AT_ONCE):
            self._put(documents[at : at + TEXTS_AT_ONCE])
        self._forget_changes()

    def delete(self, ids: Iterable[str]) -> None:
        """Remove the documents by these ids, those of them that there are."""
        for id in ids:
            row = self._connection.execute(
                "DELETE FROM indexed_document WHERE id = ? RETURNING number", (id,)
            ).fetchone()
            if row:
                self._clear(row[0])
        self._forget_changes()

    def compact(self) -> None:
        """Rewrite the words, so that those of deleted documents are nowhere any more."""
        self._connection.execute("INSERT INTO indexed_text (indexed_text) VALUES ('optimize')")

    def _put(self, documents: Sequence[IndexedDocument]) -> None:
        cuts = [passages(document.content) for document in documents]
        vectors = self._embedded(
            [
                _passage_text(document, span)
                for document, spans in zip(documents, cuts, strict=True)
                for span in spans
            ]
        )
        at = 0
        for document, spans in zip(documents, cuts, strict=True):
            self._write(document, spans, vectors[at : at + len(spans)])
            at += len(spans)

    def _embedded(self, texts: Sequence[str]) -> Vectors:
        batches = range(0, len(texts), TEXTS_AT_ONCE)
        return np.concatenate(
            [self._embedder.embed(texts[at : at + TEXTS_AT_ONCE]) for at in batches]
        )

    def _write(self, document: IndexedDocument, spans: Sequence[Span], vectors: Vectors) -> None:
        metadata = msgspec.json.encode(document.metadata)
        row = (
            document.id,
            document.title,
            document.content,
            metadata.decode(),
            document.sequence,
        )
        number: int = self._connection.execute(_DOCUMENT, row).get
        self._clear(number)
        self._connection.execute(
            "INSERT INTO indexed_text (rowid, title, content) VALUES (?, ?, ?)",
            (number, document.title, document.content),
        )
        starts = np.array([start for start, _ in spans], dtype="<i8")
        self._connection.execute(
            "INSERT INTO indexed_passages VALUES (?, ?, ?)",
            (number, starts.tobytes(), vectors.astype("<f4").tobytes()),
        )
        self._connection.executemany(
            "INSERT OR IGNORE INTO indexed_field VALUES (?, ?, ?, ?, ?)",
            # As JSON has it, whatever Python made of it: a tuple is a list, a NaN is null.
            ((*field, number) for field in field_rows(msgspec.json.decode(metadata))),
        )

    def _clear(self, number: int) -> None:
        """Remove what is derived from document `number`, and note that it changed."""
        self._connection.execute(
            """DELETE FROM indexed_text WHERE rowid = :number;
               DELETE FROM indexed_passages WHERE document = :number;
               DELETE FROM indexed_field WHERE document = :number;
               INSERT INTO index_change (document) VALUES (:number)""",
            {"number": number},
        )

    def _forget_changes(self) -> None:
        self._connection.execute(
            "DELETE FROM index_change WHERE number <= (SELECT max(number) FROM index_change) - ?",
            (CHANGES_KEPT,),
        )


def _passage_text(document: IndexedDocument, span: Span) -> str:
    """What a passage means depends on what it belongs to, so that the title goes before it."""
    passage = document.content[slice(*span)]
    return f"{document.title}\n{passage}" if document.title else passage
