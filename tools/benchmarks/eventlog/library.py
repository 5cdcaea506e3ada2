"""The `eventsourcing` library's own recorders, on SQLite and PostgreSQL, with our events in them.

Its default settings; `os` durability is made by the database's setting for commits that do not wait
for the disk.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from eventsourcing.persistence import ApplicationRecorder, StoredEvent
from eventsourcing.sqlite import (
    SQLiteApplicationRecorder,
    SQLiteConnection,
    SQLiteConnectionPool,
    SQLiteDatastore,
)

from benchmarks.eventlog.figures import POSTGRES, SQLITE
from benchmarks.eventlog.material import event, ids
from penstock.contracts.envelope import Envelope, encode
from penstock.infra.event_log import Durability

if TYPE_CHECKING:
    from eventsourcing.postgres import PostgresDatastore

NEEDS_PSYCOPG = (
    "Measuring PostgreSQL needs the package psycopg: "
    'install it with `.venv/bin/pip install "psycopg[binary,pool]"`.'
)


class Library:
    """One database with the library's tables."""

    def __init__(self, system: str, recorder: ApplicationRecorder) -> None:
        self.system = system
        self.recorder = recorder

    def append_rate(self, count: int, callers: int) -> float:
        """Appends a second of one event each, by so many threads at once."""

        def caller() -> None:
            for _ in range(count // callers):
                self.recorder.insert_events([stored(event(f"a{next(ids)}"))])

        with ThreadPoolExecutor(callers) as pool:
            started = time.perf_counter()
            for done in [pool.submit(caller) for _ in range(callers)]:
                done.result()
            return count // callers * callers / (time.perf_counter() - started)

    def fill(self, portions: Iterable[list[Envelope]]) -> None:
        """Record all of it."""
        for portion in portions:
            self.recorder.insert_events([stored(e) for e in portion])


def stored(envelope: Envelope) -> StoredEvent:
    """The same bytes as in our log, as the library stores them."""
    return StoredEvent(envelope.subject, envelope.version, envelope.type, encode(envelope))


class _NotWaiting(SQLiteConnectionPool):
    def _create_connection(self) -> SQLiteConnection:
        connection = super()._create_connection()
        connection.cursor().execute("PRAGMA synchronous = NORMAL")
        return connection


def sqlite_store(path: Path, durability: Durability) -> SQLiteDatastore:
    """A file database: WAL, and `synchronous` FULL, as is default, or NORMAL."""
    store = SQLiteDatastore(str(path), originator_id_type="text")
    if durability == "os":
        store.pool = _NotWaiting(db_name=str(path))
    return store


@contextmanager
def postgres_store(url: str, durability: Durability) -> Iterator[PostgresDatastore]:
    """A schema of its own, dropped at the end; `synchronous_commit` on, as is default, or off."""
    import psycopg
    from eventsourcing.postgres import PostgresDatastore
    from psycopg.conninfo import conninfo_to_dict

    given = conninfo_to_dict(url)
    schema = f"penstock_bench_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f"CREATE SCHEMA {schema}")
        store = PostgresDatastore(
            dbname=str(given.get("dbname") or "postgres"),
            host=str(given.get("host") or "127.0.0.1"),
            port=str(given.get("port") or 5432),
            user=str(given.get("user") or ""),
            password=str(given.get("password") or ""),
            schema=schema,
            originator_id_type="text",
            pool_size=5,  # what the library's factory makes by default
            max_overflow=10,
        )
        if durability == "os":
            assert isinstance(store.pool.kwargs, dict)
            store.pool.kwargs["options"] = "-c synchronous_commit=off"
        try:
            yield store
        finally:
            store.close()
            admin.execute(f"DROP SCHEMA {schema} CASCADE")


@contextmanager
def libraries(
    directory: Path, postgres: str | None, durability: Durability
) -> Iterator[list[Library]]:
    """The library on SQLite, and on PostgreSQL if its URL is given."""
    with ExitStack() as stack:
        sqlite = sqlite_store(directory / f"{uuid.uuid4().hex[:8]}.sqlite", durability)
        stack.callback(sqlite.close)
        recorder = SQLiteApplicationRecorder(sqlite)
        recorder.create_table()
        opened = [Library(SQLITE, recorder)]
        if postgres:
            from eventsourcing.postgres import PostgresApplicationRecorder

            store = stack.enter_context(postgres_store(postgres, durability))
            there = PostgresApplicationRecorder(store)
            there.create_table()
            opened.append(Library(POSTGRES, there))
        yield opened
