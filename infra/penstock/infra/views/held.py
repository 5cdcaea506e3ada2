"""Which aggregates a view holds still, because one of their events cannot be folded.

The events behind it would be folded onto a state that lacks one: they wait, while every other
aggregate goes on. Kept in the read model itself, and committed with its checkpoint. Never folds
and never buries: see `holding`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import apsw
import msgspec

from penstock.contracts.envelope import decode, type_of
from penstock.contracts.errors import InvalidMessage, Problem, Unavailable
from penstock.contracts.lifecycle import ARCHIVED, ERASED
from penstock.contracts.subjects import untoken
from penstock.infra.follower import Followed
from penstock.infra.telemetry import HELD

SCHEMA = """
CREATE TABLE held (
    id TEXT PRIMARY KEY, sequence INTEGER NOT NULL, reason BLOB NOT NULL, trace TEXT,
    since TEXT NOT NULL, buried INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX held_not_buried ON held (id) WHERE NOT buried;
"""
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Problem).decode


class Hold(msgspec.Struct, frozen=True):
    """An aggregate whose event at `sequence` could not be folded, since when and why."""

    id: str
    sequence: int
    reason: Problem
    trace: str | None
    since: datetime


class Held:
    """The held aggregates of one view, for the projector's thread only.

    `db` is the view's writing connection. Also kept in memory, by id: every event asks. `news`:
    something was held since somebody set it to False. `counted`: it is the service's metric.
    """

    def __init__(self, db: apsw.Connection, service: str, *, counted: bool = True) -> None:
        self._service = service
        self._counted = counted
        self._tombstones = {type_of(s[service]).unversioned for s in (ERASED, ARCHIVED)}
        self._trying: str | None = None
        self.move(db)
        self.news = False

    def move(self, db: apsw.Connection) -> None:
        """Go on with the holds of another view, some of which may have no letter."""
        self.db = db
        self.ids = {id for (id,) in db.execute("SELECT id FROM held")}
        self.news = True
        self._count()

    def free(self, batch: Sequence[Followed]) -> list[Followed]:
        """Those of a batch that are not held back, and tombstones: they need none before them."""
        if not self.ids:
            return list(batch)
        free, ended = [], set()
        for message in batch:
            id = aggregate_of(message)
            if not self.is_free(id) and self._is_tombstone(message):
                ended.add(id)
            if self.is_free(id) or id in ended:
                free.append(message)
        return free

    def folded(self, batch: Sequence[Followed]) -> None:
        """Let go of those whose tombstone was folded, see `forget`; `batch` is what `free` gave."""
        for message in batch if self.ids else ():
            if not self.is_free(id := aggregate_of(message)):
                self.ids.discard(id)
                self._count()

    def _is_tombstone(self, message: Followed) -> bool:
        if b"ed.v" not in message.data:  # none of the two names, cheaply
            return False
        try:
            return decode(message.data).type.rpartition(".")[0] in self._tombstones
        except InvalidMessage:
            return False

    def is_free(self, id: str) -> bool:
        """Whether an aggregate's events are to be folded."""
        return id not in self.ids or id == self._trying

    def hold(self, message: Followed, reason: Problem, trace: str | None) -> None:
        """Hold the aggregate of an event from now on; within the checkpoint's transaction.

        To be followed by `remember`, once that transaction has committed.
        """
        now = datetime.now(UTC).isoformat()
        self.db.execute(
            """INSERT INTO held VALUES (?, ?, ?, ?, ?, 0) ON CONFLICT (id) DO UPDATE SET
               buried = buried AND sequence = excluded.sequence,
               since = iif(sequence = excluded.sequence, since, excluded.since),
               sequence = excluded.sequence, reason = excluded.reason, trace = excluded.trace""",
            (aggregate_of(message), message.sequence, _encode(reason), trace, now),
        )

    def remember(self, id: str) -> None:
        """The aggregate is held: its events are not free any more."""
        self.ids.add(id)
        self.news = True
        self._trying = None
        self._count()

    def trying(self, id: str | None) -> None:
        """Let the events of one held aggregate through, to see whether they fold now."""
        self._trying = id

    def let_go(self, id: str) -> None:
        """The aggregate has caught up and is held no longer."""
        with self.db:
            self.db.execute("DELETE FROM held WHERE id = ?", (id,))
        self.ids.discard(id)
        self._count()

    def not_buried(self, limit: int) -> list[Hold]:
        """Held aggregates whose event may have no dead letter yet."""
        rows = self.db.execute(
            "SELECT id, sequence, reason, trace, since FROM held WHERE NOT buried LIMIT ?", (limit,)
        )
        return [_hold(row) for row in rows]

    def buried(self, hold: Hold) -> None:
        """The event has its dead letter."""
        with self.db:
            self.db.execute(
                "UPDATE held SET buried = 1 WHERE id = ? AND sequence = ?", (hold.id, hold.sequence)
            )

    def _count(self) -> None:
        if self._counted:
            HELD.labels(self._service).set(len(self.ids))


def find(db: apsw.Connection, id: str) -> Hold | None:
    """Why an aggregate is held, or None: for any connection to the view."""
    row = db.execute(
        "SELECT id, sequence, reason, trace, since FROM held WHERE id = ?", (id,)
    ).fetchone()
    return _hold(row) if row else None


def forget(db: apsw.Connection, ids: Sequence[str]) -> None:
    """Remove what is known of holds of these aggregates, whose tombstone is being folded."""
    db.executemany("DELETE FROM held WHERE id = ?", ((id,) for id in ids))


def held_back(service: str, hold: Hold) -> Unavailable:
    """The error for an aggregate that has no state yet, because its first event is held."""
    return Unavailable(
        f"{service} holds {hold.id!r} back: its event {hold.sequence} cannot be folded "
        f"({hold.reason.detail}) Look at `penstock dead list --service {service}`.",
        held=hold.sequence,
    )


def aggregate_of(message: Followed) -> str:
    """Whose event a message is, by its subject: its body may not be readable."""
    return untoken(message.subject.rpartition(".")[2])


def _hold(row: Sequence[Any]) -> Hold:
    id, sequence, reason, trace, since = row
    return Hold(id, sequence, _decode(reason), trace, datetime.fromisoformat(since))
