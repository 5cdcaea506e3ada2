"""The tags by their last invalidation. Never decides, and knows nothing of entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw
import msgspec

from penstock.contracts.cache import CountTags, ListTags, TagCounts, TagState, TagSummary
from penstock.infra.queries import Query
from penstock.infra.views.view import Folded, View


class TagView(View[TagState]):
    """One row for each tag that was ever invalidated."""

    schema = """
    CREATE TABLE tag (
        id TEXT PRIMARY KEY, sequence INTEGER NOT NULL, count INTEGER NOT NULL,
        reason TEXT, invalidated TEXT NOT NULL, reflects INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX tag_by_sequence ON tag (sequence DESC);
    CREATE INDEX tag_by_reflects ON tag (reflects DESC);
    """

    def fold(self, db: apsw.Connection, folded: Sequence[Folded[TagState]]) -> None:
        """See View.fold."""
        last = {f.state.id: f for f in folded}
        db.executemany(
            "INSERT OR REPLACE INTO tag VALUES (?, ?, ?, ?, ?, ?)",
            ((f.state.id, f.sequence, *_columns(f.state)) for f in last.values()),
        )

    def forget(self, db: apsw.Connection, ids: Sequence[str]) -> None:
        """See View.forget."""
        db.executemany("DELETE FROM tag WHERE id = ?", ((id,) for id in ids))


def _columns(tag: TagState) -> tuple[int, str | None, str, int]:
    return tag.count, tag.reason, tag.invalidated.isoformat(), tag.reflects


def listed(db: apsw.Connection, params: ListTags) -> list[TagSummary]:
    """The last invalidated first."""
    rows = db.execute(
        """SELECT id, sequence, count, reason, invalidated FROM tag
           WHERE substr(id, 1, length(:starting)) = :starting
             AND (:before IS NULL OR sequence < :before)
           ORDER BY sequence DESC LIMIT :limit""",
        {"starting": params.starting, "before": params.before, "limit": params.limit},
    )
    columns = ("tag", "sequence", "count", "reason", "invalidated")
    found = [dict(zip(columns, row, strict=True)) for row in rows]
    return msgspec.convert(found, list[TagSummary])


def counted(db: apsw.Connection, _: CountTags) -> TagCounts:
    """Totals over all tags."""
    rows = db.execute("SELECT count(*), total(count), ifnull(max(reflects), 0) FROM tag")
    ((tags, invalidations, reflects),) = rows
    return TagCounts(tags=tags, invalidations=int(invalidations), reflects=reflects)


QUERIES: list[Query[Any]] = [
    Query(
        name="tags",
        path="/cache",
        params=ListTags,
        returns=list[TagSummary],
        read=listed,
        summary="Tags, the last invalidated first",
    ),
    Query(
        name="stats",
        path="/cache/stats",
        params=CountTags,
        returns=TagCounts,
        read=counted,
        summary="How many tags and invalidations there are",
    ),
]
