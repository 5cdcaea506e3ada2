"""A service's read model: one SQLite file with the folded state of every aggregate.

A view and its checkpoint commit in one transaction. The file is a cache of the stream: when its
schema changed, or it is missing or damaged, it is made anew; what another schema left cannot be
asked meanwhile. Never written but by its projector.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from pathlib import Path
from types import UnionType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast

import apsw
import msgspec

from penstock.contracts.lifecycle import Archived, Erased
from penstock.infra.deciding.snapshots import schema_of
from penstock.infra.views import held, rows
from penstock.infra.views.comparison import Compared, Row
from penstock.infra.views.files import connect, fingerprint, put_stamp, remove, stamp_of
from penstock.infra.views.recent import Recent
from penstock.infra.views.view import Ended, Folded, View

S = TypeVar("S")
T = TypeVar("T")
P = ParamSpec("P")
READERS = 2
CACHED = 50_000
FRAME_SCHEMA = (
    """
CREATE TABLE checkpoint (
    one INTEGER PRIMARY KEY CHECK (one = 1), sequence INTEGER NOT NULL, archived_to REAL
);
INSERT INTO checkpoint VALUES (1, 0, NULL);
-- With a rowid: they are written in the order in which they come, whatever their ids are, and
-- change where they stand.
CREATE TABLE aggregate (id TEXT PRIMARY KEY, sequence INTEGER NOT NULL, state BLOB NOT NULL);
CREATE TABLE flow (sequence INTEGER PRIMARY KEY, correlationid TEXT NOT NULL);
CREATE INDEX flow_by_id ON flow (correlationid);
"""
    + held.SCHEMA
)


class ReadModel(Generic[S]):
    """The database. `read` runs on its own connections and threads, so that it never waits.

    With `whole` false it is made anew, and is not the view until `stamp` says so.
    """

    def __init__(
        self,
        path: Path,
        view: View[S],
        state: type[S] | UnionType,
        *,
        salt: str = "",
        whole: bool = True,
    ) -> None:
        self.path = path
        self.view = view
        self._schema = FRAME_SCHEMA + view.schema
        self._stamp = partial(stamp_for, view, state, salt)  # costs some, and few need it
        self.decode: Callable[[bytes], S] = msgspec.json.Decoder(state).decode
        self._encode = msgspec.json.Encoder().encode
        self._states: Recent[str, S] = Recent(CACHED)
        self._local = threading.local()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix=f"read-{path.stem}")
        self._opened: list[apsw.Connection] = []
        self._db = self._open_or_remake() if whole else self._make()

    def close(self) -> None:
        """Close every connection, once those who read now have what they asked for."""
        self._readers.shutdown()
        for connection in [*self._opened, self._db]:
            self.view.release(connection)
            connection.close()

    # -- writing: the projector's thread only ------------------------------------------------

    @property
    def checkpoint(self) -> int:
        """The last sequence folded."""
        return checkpoint(self._db)

    @property
    def writer(self) -> apsw.Connection:
        """The writing connection: what is done within `with model.writer` commits as one."""
        return self._db

    def states(self, ids: Collection[str]) -> dict[str, S]:
        """The present states of those aggregates that have one, as the writer sees them."""
        recent = self._states.get
        found = {id: state for id in ids if (state := recent(id)) is not None}
        missing = [id for id in ids if id not in found]
        select = "id, state FROM aggregate WHERE id"
        for id, body in rows.select(self._db, select, missing):
            found[id] = self.decode(body)
        return found

    def write(self, folded: Sequence[Folded[S] | Ended], sequence: int) -> None:
        """Commit folded events and the checkpoint `sequence`, all or nothing.

        The checkpoint never goes back: events that were held back are folded behind it.
        """
        try:
            with self._db:
                for ended, run in groupby(folded, key=lambda f: isinstance(f, Ended)):
                    if ended:
                        self._forget([f for f in run if isinstance(f, Ended)])
                    else:
                        self._keep([f for f in run if isinstance(f, Folded)])
                self._db.execute("UPDATE checkpoint SET sequence = max(sequence, ?)", (sequence,))
        except BaseException:
            self._states.clear()
            self.view.release(self._db)
            raise
        self._remember(folded)
        if any(isinstance(f, Ended) and isinstance(f.data, Erased) for f in folded):
            # What was erased also goes from the log of writes. Readers may put that off.
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _keep(self, folded: Sequence[Folded[S]]) -> None:
        last = {f.event.subject: f for f in folded}
        rows.insert(
            self._db,
            "INTO aggregate",
            [(id, f.sequence, self._encode(f.state)) for id, f in last.items()],
            then="ON CONFLICT (id) DO UPDATE SET sequence = excluded.sequence,"
            " state = excluded.state",
        )
        rows.insert(
            self._db, "OR IGNORE INTO flow", [(f.sequence, f.event.correlationid) for f in folded]
        )
        self.view.fold(self._db, folded)

    def _forget(self, ended: Sequence[Ended]) -> None:
        ids = [one.event.subject for one in ended]
        self.view.end(self._db, ended)
        held.forget(self._db, ids)
        rows.delete(self._db, "aggregate WHERE id", ids)
        sequences = [sequence for one in ended for sequence in one.data.sequences]
        rows.delete(self._db, "flow WHERE sequence", sequences)
        rows.insert(
            self._db,
            "OR IGNORE INTO flow",
            # Not those that end by themselves: a view made anew later does not know them.
            [(e.sequence, e.event.correlationid) for e in ended if isinstance(e.data, Erased)],
        )
        if to := [one.data.ended.timestamp() for one in ended if isinstance(one.data, Archived)]:
            self._db.execute(
                "UPDATE checkpoint SET archived_to = max(coalesce(archived_to, 0), ?)", (max(to),)
            )

    def _remember(self, folded: Sequence[Folded[S] | Ended]) -> None:
        last = {f.event.subject: f for f in folded}
        self._states.put({id: f.state for id, f in last.items() if isinstance(f, Folded)})
        for id, f in last.items():
            if isinstance(f, Ended):
                self._states.drop(id)

    # -- reading -----------------------------------------------------------------------------

    def read(
        self,
        question: Callable[Concatenate[apsw.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Awaitable[tuple[int, T]]:
        """Run `question` in one read transaction: the sequence it reflects, and its result.

        It is in hand on return, so that it is answered even if `close` is called before the await.
        """

        def run() -> tuple[int, T]:
            db = self._reader()
            db.execute("BEGIN")
            try:
                return checkpoint(db), question(db, *args, **kwargs)
            finally:
                db.execute("ROLLBACK")

        return asyncio.get_running_loop().run_in_executor(self._readers, run)

    def aggregate(self, db: apsw.Connection, id: str) -> tuple[int, S] | None:
        """An aggregate's revision and state, for use in `read`."""
        row = db.execute("SELECT sequence, state FROM aggregate WHERE id = ?", (id,)).fetchone()
        return (row[0], self.decode(row[1])) if row else None

    def known(self, db: apsw.Connection, id: str) -> tuple[tuple[int, S] | None, held.Hold | None]:
        """An aggregate's revision and state, and why it stands there; for use in `read`."""
        return self.aggregate(db, id), held.find(db, id)

    def flow(self, db: apsw.Connection, correlationid: str) -> list[int]:
        """The sequences of a flow's events, for use in `read`."""
        rows = db.execute(
            "SELECT sequence FROM flow WHERE correlationid = ? ORDER BY sequence", (correlationid,)
        )
        return [sequence for (sequence,) in rows]

    def _reader(self) -> apsw.Connection:
        if not hasattr(self._local, "db"):
            self._local.db = connect(self.path, apsw.SQLITE_OPEN_READWRITE)
            self._local.db.execute("PRAGMA query_only = 1")
            self._opened.append(self._local.db)
        db: apsw.Connection = self._local.db
        return db

    # -- comparing ---------------------------------------------------------------------------

    @contextmanager
    def snapshot(self) -> Iterator[tuple[int, apsw.Connection]]:
        """A connection that sees the view as it is now while the block runs, and its sequence."""
        with closing(connect(self.path, apsw.SQLITE_OPEN_READWRITE)) as db:
            db.execute("PRAGMA query_only = 1; BEGIN")
            yield checkpoint(db), db

    def compared(self, db: apsw.Connection) -> list[Compared]:
        """What `verify` compares, for use in `snapshot`."""
        frame = {
            "aggregate": Compared(
                "aggregate",
                "SELECT id, sequence, state FROM aggregate ORDER BY id",
                same=self._same_state,
            ),
            # Not `archived_to`: of one that was erased from the archive the log tells nothing more.
            "checkpoint": Compared("checkpoint", "SELECT one, sequence FROM checkpoint"),
            # Not since when and with which words.
            "held": Compared("held", "SELECT id, sequence FROM held ORDER BY id"),
        }
        return [frame.get(one.table, one) for one in self.view.compared(db)]

    def _same_state(self, one: Row, other: Row) -> bool:
        # The encoded state tells 5.0 from 5, as it was stored between two events or was not.
        try:
            states = [self.decode(cast("bytes", row[-1])) for row in (one, other)]
        except (TypeError, msgspec.DecodeError):  # not even a state
            return False
        return one[:-1] == other[:-1] and states[0] == states[1]

    # -- opening -----------------------------------------------------------------------------

    def stamp(self) -> None:
        """Make this the view at the next start, whatever happens to the machine from here on."""
        self._db.execute("PRAGMA synchronous = FULL")
        put_stamp(self._db, self._stamp())
        self._db.execute("PRAGMA synchronous = NORMAL")

    def _open_or_remake(self) -> apsw.Connection:
        if stamp_of(self.path) == self._stamp():
            return connect(self.path)
        db = self._make()
        put_stamp(db, self._stamp())
        return db

    def _make(self) -> apsw.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        remove(self.path)
        db = connect(self.path)
        with db:
            db.execute(self._schema)
        return db


def checkpoint(db: apsw.Connection) -> int:
    """The last sequence that a connection's view reflects."""
    sequence: int = db.execute("SELECT sequence FROM checkpoint").fetchone()[0]  # type: ignore[index]
    return sequence


def archived_to(db: apsw.Connection) -> datetime | None:
    """The end of the youngest aggregate that is in the archive, None if none is."""
    stamp: float | None = db.execute("SELECT archived_to FROM checkpoint").get
    return None if stamp is None else datetime.fromtimestamp(stamp, UTC)


def revision(db: apsw.Connection, id: str) -> int:
    """The sequence of the last event that is folded into an aggregate (0: none)."""
    row = db.execute("SELECT sequence FROM aggregate WHERE id = ?", (id,)).fetchone()
    return int(row[0]) if row else 0


def stamp_for(view: View[Any], state: type[Any] | UnionType, salt: str) -> int:
    """The stamp that a read model of `view` bears; `salt` is what else it depends on."""
    return fingerprint(FRAME_SCHEMA + view.schema, schema_of(state, view.version), salt)
