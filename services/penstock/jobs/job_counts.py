"""The counts of jobs in the view: by second, minute, hour and day. Never reads an event.

What is known of jobs that are gone from the log stays in a table of its own: a view that is made
anew begins without it.
"""

from __future__ import annotations

from collections.abc import Mapping

import apsw

from penstock.infra.views import rows
from penstock.infra.views.comparison import Compared
from penstock.jobs.job_moves import KEPT, Counts, Depths, spread

_COLUMNS = """
    size INTEGER NOT NULL, at INTEGER NOT NULL, queue TEXT NOT NULL, name TEXT NOT NULL,
    what TEXT NOT NULL, bucket INTEGER NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (size, at, queue, name, what, bucket)
"""
SCHEMA = f"""
    CREATE TABLE counted ({_COLUMNS}) WITHOUT ROWID;
    CREATE TABLE counted_gone ({_COLUMNS}) WITHOUT ROWID;
    CREATE VIEW counts AS SELECT * FROM counted UNION ALL SELECT * FROM counted_gone;
    CREATE TABLE depth (
        queue TEXT NOT NULL, priority INTEGER NOT NULL, letter TEXT NOT NULL,
        count INTEGER NOT NULL, PRIMARY KEY (queue, priority, letter)
    ) WITHOUT ROWID;
    CREATE TABLE clock (second INTEGER PRIMARY KEY, sequence INTEGER NOT NULL);
"""
TABLES = ("counted", "counted_gone", "depth", "clock", "steps")
# How many there are of a state is left out where it is none: that depends on the batches.
COMPARED = [
    Compared("counted", "SELECT * FROM counted WHERE count <> 0 ORDER BY 1, 2, 3, 4, 5, 6", 6),
    Compared("depth", "SELECT * FROM depth WHERE count <> 0 ORDER BY 1, 2, 3", 3),
]


_ADD = "ON CONFLICT DO UPDATE SET count = count + excluded.count"


def add(db: apsw.Connection, counts: Counts, table: str = "counted", sign: int = 1) -> None:
    """Add what a batch counted, or with `sign` -1 take it back."""
    found = spread(counts, sign)
    rows.insert(db, f"INTO {table}", ((*key, n) for key, n in found.items()), then=_ADD)


def deepen(db: apsw.Connection, depths: Depths) -> None:
    """Add how many more, or fewer, there are of each queue, priority and state."""
    rows.insert(db, "INTO depth", ((*key, n) for key, n in depths.items() if n), then=_ADD)


def tick(db: apsw.Connection, sequences: Mapping[int, int]) -> None:
    """Remember the last sequence of each second."""
    then = "ON CONFLICT DO UPDATE SET sequence = max(sequence, excluded.sequence)"
    rows.insert(db, "INTO clock", sequences.items(), then=then)


def thin_out(db: apsw.Connection) -> None:
    """Drop the seconds, minutes and hours that are longer past than they are kept.

    Of the clock's such seconds the newest stays: up to its sequence nothing is kept by the second.
    """
    newest = db.execute("SELECT max(at) FROM counted WHERE size = 1").get
    if newest is None:
        return
    for size, kept in KEPT.items():
        for table in ("counted", "counted_gone"):
            db.execute(f"DELETE FROM {table} WHERE size = ? AND at < ?", (size, newest - kept))
    db.execute(
        "DELETE FROM clock WHERE second < (SELECT max(second) FROM clock WHERE second < ?)",
        (newest - KEPT[1],),
    )
