"""The lists of exports and of documents; each one's state is kept by the frame. Never decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw
import msgspec

from penstock.contracts.answers import Question
from penstock.contracts.errors import NotFound
from penstock.contracts.exports import (
    DocumentState,
    ExportState,
    FormatInfo,
    ListDocuments,
    ListExports,
)
from penstock.exports.domain import State
from penstock.exports.formats import FORMATS
from penstock.infra.queries import Query
from penstock.infra.views.view import Folded, View

_export = msgspec.json.Decoder(ExportState).decode
_document = msgspec.json.Decoder(DocumentState).decode


class ExportsView(View[State]):
    """One row for each export and each document. `place` is a stream sequence, thus unique."""

    schema = """
    CREATE TABLE export (
        id TEXT PRIMARY KEY, place INTEGER NOT NULL, state TEXT NOT NULL,
        kind TEXT NOT NULL, document TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX export_by_place ON export (place DESC);
    CREATE INDEX export_by_state ON export (state, place DESC);
    CREATE INDEX export_by_document ON export (kind, document, place DESC);
    CREATE TABLE document (
        id TEXT PRIMARY KEY, place INTEGER NOT NULL, kind TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX document_by_place ON document (place DESC);
    CREATE INDEX document_by_kind ON document (kind, place DESC);
    """

    def fold(self, db: apsw.Connection, folded: Sequence[Folded[State]]) -> None:
        """See View.fold. An export keeps the place of its request, a document that of its put."""
        for one in folded:
            id, state = one.event.subject, one.state
            if isinstance(state, ExportState):
                db.execute(
                    "INSERT INTO export VALUES (?, ?, ?, ?, ?)"
                    " ON CONFLICT DO UPDATE SET state = excluded.state",
                    (id, one.sequence, state.state, state.kind, state.document),
                )
            else:
                db.execute(
                    "INSERT OR REPLACE INTO document VALUES (?, ?, ?)",
                    (id, one.sequence, state.kind),
                )

    def forget(self, db: apsw.Connection, ids: Sequence[str]) -> None:
        """See View.forget."""
        for table in ("export", "document"):
            db.executemany(f"DELETE FROM {table} WHERE id = ?", ((id,) for id in ids))


def listed_exports(db: apsw.Connection, params: ListExports) -> list[ExportState]:
    """Newest first. Raises NotFound for a `before` that is no export."""
    return [_export(body) for body in _page(db, "export", params, ("state", "kind", "document"))]


def listed_documents(db: apsw.Connection, params: ListDocuments) -> list[DocumentState]:
    """Last put first. Raises NotFound for a `before` that is no document."""
    return [_document(body) for body in _page(db, "document", params, ("kind",))]


def _page(
    db: apsw.Connection,
    table: str,
    params: ListExports | ListDocuments,
    columns: Sequence[str],
) -> list[bytes]:
    # Only what is asked for stands in the query: an `OR ? IS NULL` would keep it off the indexes.
    values = {c: getattr(params, c) for c in columns if getattr(params, c) is not None}
    conditions = ["TRUE", *(f"{table}.{column} = :{column}" for column in values)]
    if params.before is not None:
        conditions.append("place < :place")
        values["place"] = _place(db, table, params.before)
    rows = db.execute(
        f"SELECT aggregate.state FROM {table} JOIN aggregate USING (id)"
        f" WHERE {' AND '.join(conditions)} ORDER BY place DESC LIMIT :limit",
        {**values, "limit": params.limit},
    )
    return [body for (body,) in rows]


def _place(db: apsw.Connection, table: str, id: str) -> int:
    row = db.execute(f"SELECT place FROM {table} WHERE id = ?", (id,)).fetchone()
    if row is None:
        raise NotFound(f"There is no {table} {id!r} to go on from; leave `before` out.", id=id)
    place: int = row[0]
    return place


def exports_of(db: apsw.Connection, kind: str, document: str) -> list[str]:
    """The ids of all exports of one document."""
    asked = "SELECT id FROM export WHERE kind = ? AND document = ?"
    return [id for (id,) in db.execute(asked, (kind, document))]


def has_content(db: apsw.Connection, sha256: str, *, beside: str) -> bool:
    """Whether a document other than the one with the key `beside` has this content now."""
    rows = db.execute(
        """SELECT 1 FROM document JOIN aggregate USING (id)
           WHERE id <> ? AND json_extract(aggregate.state, '$.content.sha256') = ? LIMIT 1""",
        (beside, sha256),
    )
    return rows.fetchone() is not None


def known_formats(_db: apsw.Connection, _params: Question) -> list[FormatInfo]:
    """Every format that this service can write."""
    return [
        FormatInfo(name=f.name, media_type=f.media_type, suffix=f.suffix, timed=f.timed)
        for f in FORMATS.values()
    ]


QUERIES: list[Query[Any]] = [
    Query(
        name="list",
        path="/exports",
        params=ListExports,
        returns=list[ExportState],
        read=listed_exports,
        summary="Exports by state or document, newest first",
    ),
    Query(
        name="documents",
        path="/exports/documents",
        params=ListDocuments,
        returns=list[DocumentState],
        read=listed_documents,
        summary="Documents that can be exported, last put first",
    ),
    Query(
        name="formats",
        path="/exports/formats",
        params=Question,
        returns=list[FormatInfo],
        read=known_formats,
        summary="The formats to export to",
    ),
]
