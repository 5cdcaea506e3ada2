"""A view like progress's, built the way the library's projections are: each event's change and its
tracking in one transaction of the view's database.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from eventsourcing.persistence import ApplicationRecorder, Tracking
from eventsourcing.sqlite import SQLiteDatastore, SQLiteTrackingRecorder

from benchmarks.eventlog.library import postgres_store, sqlite_store
from penstock.contracts.envelope import decode, unwrap
from penstock.contracts.progress import ProgressState
from penstock.progress.domain import evolve

PAGE = 1000
APPLICATION = "progress"
Row = tuple[str, str, str, bytes]
_encode = msgspec.json.Encoder().encode


class Projected(ABC):
    """A view with the state of every progress; states are kept in memory, as by our projector."""

    def __init__(self) -> None:
        self._states: dict[str, ProgressState] = {}

    def project(self, recorder: ApplicationRecorder) -> int:
        """Fold all notifications from the start; how many there were."""
        last = count = 0
        while page := recorder.select_notifications(last, PAGE, inclusive_of_start=False):
            for notification in page:
                self.write(self._row(notification.state), Tracking(APPLICATION, notification.id))
            last, count = page[-1].id, count + len(page)
        return count

    def clear(self) -> None:
        """Be empty again."""
        self._states.clear()
        self.empty()

    def _row(self, body: bytes) -> Row:
        event = decode(body)
        state = evolve(self._states.get(event.subject), unwrap(event), event)
        self._states[event.subject] = state
        return state.id, state.state, state.created.isoformat(), _encode(state)

    @abstractmethod
    def write(self, row: Row, tracking: Tracking) -> None:
        """Store a row and the position that it comes from."""

    @abstractmethod
    def page(self) -> list[Any]:
        """The newest progresses."""

    @abstractmethod
    def empty(self) -> None:
        """Delete every row and the position."""


class _OnSQLite(Projected):
    def __init__(self, store: SQLiteDatastore) -> None:
        super().__init__()
        self._store = store
        self._tracking = SQLiteTrackingRecorder(store)
        self._tracking.create_table()
        with store.transaction(commit=True) as cursor:
            cursor.execute(
                "CREATE TABLE listed (id TEXT PRIMARY KEY, state TEXT, created TEXT, body BLOB)"
            )
            cursor.execute("CREATE INDEX listed_by_time ON listed (created DESC)")

    def write(self, row: Row, tracking: Tracking) -> None:
        with self._store.transaction(commit=True) as cursor:
            cursor.execute("INSERT OR REPLACE INTO listed VALUES (?, ?, ?, ?)", row)
            self._tracking._insert_tracking(cursor, tracking)

    def page(self) -> list[Any]:
        with self._store.transaction(commit=False) as cursor:
            cursor.execute("SELECT body FROM listed ORDER BY created DESC LIMIT 50")
            return list(cursor.fetchall())

    def empty(self) -> None:
        with self._store.transaction(commit=True) as cursor:
            cursor.execute("DELETE FROM listed")
            cursor.execute("DELETE FROM tracking WHERE application_name = ?", (APPLICATION,))


class _OnPostgres(Projected):
    def __init__(self, store: Any) -> None:
        from eventsourcing.postgres import PostgresTrackingRecorder

        super().__init__()
        self._store = store
        self._tracking = PostgresTrackingRecorder(store)
        self._tracking.create_table()
        self._table = f"{store.schema}.listed"
        with store.transaction(commit=True) as cursor:
            cursor.execute(
                f"CREATE TABLE {self._table} (id text PRIMARY KEY, state text, created text, "
                "body bytea)"
            )
            cursor.execute(f"CREATE INDEX listed_by_time ON {self._table} (created DESC)")

    def write(self, row: Row, tracking: Tracking) -> None:
        statement = (
            f"INSERT INTO {self._table} VALUES (%s, %s, %s, %s) ON CONFLICT (id) DO UPDATE "
            "SET state = excluded.state, created = excluded.created, body = excluded.body"
        )
        with self._store.transaction(commit=True) as cursor:
            cursor.execute(statement, row, prepare=True)
            self._tracking._insert_tracking(cursor, tracking)

    def page(self) -> list[Any]:
        with self._store.transaction() as cursor:
            cursor.execute(f"SELECT body FROM {self._table} ORDER BY created DESC LIMIT 50")
            return list(cursor.fetchall())

    def empty(self) -> None:
        tracking = f"{self._store.schema}.{self._tracking.tracking_table_name}"
        with self._store.transaction(commit=True) as cursor:
            cursor.execute(f"TRUNCATE {self._table}")
            cursor.execute(f"DELETE FROM {tracking} WHERE application_name = %s", (APPLICATION,))


@contextmanager
def projections(directory: Path, postgres: str | None) -> Iterator[list[Projected]]:
    """An empty view in each database, where commits do not wait for the disk, as in our views."""
    with ExitStack() as stack:
        store = sqlite_store(directory / "projection.sqlite", "os")
        stack.callback(store.close)
        opened: list[Projected] = [_OnSQLite(store)]
        if postgres:
            opened.append(_OnPostgres(stack.enter_context(postgres_store(postgres, "os"))))
        yield opened
