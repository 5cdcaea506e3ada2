"""What each inbox holds and what of it is unread. Never decides."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import apsw
import msgspec

from penstock.contracts.notifications import (
    FeedState,
    Inbox,
    InboxItem,
    ListInbox,
    NotificationSent,
    NotificationsRead,
    inbox_of,
)
from penstock.infra.queries import Query
from penstock.infra.views.view import Folded, View


class InboxView(View[FeedState]):
    """One row for each notification in an inbox. Channels have no list: their log is it."""

    schema = """
    CREATE TABLE notification (
        inbox TEXT NOT NULL, id TEXT NOT NULL, sequence INTEGER NOT NULL,
        time TEXT NOT NULL, content BLOB NOT NULL, read TEXT,
        PRIMARY KEY (inbox, id)
    ) WITHOUT ROWID;
    CREATE INDEX notification_by_sequence ON notification (inbox, sequence);
    CREATE INDEX notification_unread ON notification (inbox, sequence) WHERE read IS NULL;
    """

    def fold(self, db: apsw.Connection, folded: Sequence[Folded[FeedState]]) -> None:
        """See View.fold."""
        for f in folded:
            if isinstance(f.data, NotificationSent):
                _add(db, f, f.data)
            elif isinstance(f.data, NotificationsRead):
                _mark(db, f, f.data)

    def forget(self, db: apsw.Connection, ids: Sequence[str]) -> None:
        """See View.forget."""
        db.executemany("DELETE FROM notification WHERE inbox = ?", ((id,) for id in ids))


def _add(db: apsw.Connection, f: Folded[FeedState], sent: NotificationSent) -> None:
    content = msgspec.json.encode(sent.content)
    db.execute(
        "INSERT OR REPLACE INTO notification VALUES (?, ?, ?, ?, ?, NULL)",
        (f.event.subject, sent.id, f.sequence, f.event.time.isoformat(), content),
    )


def _mark(db: apsw.Connection, f: Folded[FeedState], read: NotificationsRead) -> None:
    inbox, time = f.event.subject, f.event.time.isoformat()
    db.executemany(
        "UPDATE notification SET read = ? WHERE inbox = ? AND id = ? AND read IS NULL",
        ((time, inbox, id) for id in read.ids),
    )
    if read.through is not None:
        db.execute(
            "UPDATE notification SET read = ? WHERE inbox = ? AND sequence <= ? AND read IS NULL",
            (time, inbox, read.through),
        )


def inbox(db: apsw.Connection, params: ListInbox) -> Inbox:
    """Newest first. The count of unread ones is counted, never kept, so that it cannot drift."""
    id = inbox_of(params.user)
    rows = db.execute(
        """SELECT id, sequence, content, time, read FROM notification
           WHERE inbox = :inbox AND (:before IS NULL OR sequence < :before)
             AND (read IS NULL OR NOT :unread)
           ORDER BY sequence DESC LIMIT :limit""",
        {"inbox": id, "before": params.before, "unread": params.unread, "limit": params.limit},
    )
    items = tuple(
        InboxItem(
            id=id,
            sequence=sequence,
            content=msgspec.json.decode(content),
            time=datetime.fromisoformat(time),
            read=datetime.fromisoformat(read) if read else None,
        )
        for id, sequence, content, time, read in rows
    )
    return Inbox(user=params.user, items=items, unread=_unread(db, id), version=_version(db, id))


def _unread(db: apsw.Connection, inbox: str) -> int:
    counted = "SELECT count(*) FROM notification WHERE inbox = ? AND read IS NULL"
    count: int = db.execute(counted, (inbox,)).fetchone()[0]  # type: ignore[index]
    return count


def _version(db: apsw.Connection, inbox: str) -> int:
    row = db.execute("SELECT sequence FROM aggregate WHERE id = ?", (inbox,)).fetchone()
    return row[0] if row else 0


INBOX_QUERY = Query(
    name="inbox",
    path="/notifications/inbox/{user}",
    params=ListInbox,
    returns=Inbox,
    read=inbox,
    summary="A user's notifications, newest first, and how many are unread",
)
