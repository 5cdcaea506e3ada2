"""The counts of jobs in the view: by second, minute, hour and day. Never reads an event.

What jobs count for that are gone from the log is in a table of its own, `counted_gone`, from the
tally of the command that took them out; until that comes it is in `counted_leaving`.
"""

from __future__ import annotations

from collections.abc import Mapping

import apsw

from penstock.infra.views import rows
from penstock.infra.views.comparison import Compared
from penstock.jobs.job_moves import KEPT, Counts, Depths, spread

_KEY = "size, at, queue, name, what, bucket"
_COLUMNS = """
    size INTEGER NOT NULL, at INTEGER NOT NULL, queue TEXT NOT NULL, name TEXT NOT NULL,
    what TEXT NOT NULL, bucket INTEGER NOT NULL, count INTEGER NOT NULL
"""
SCHEMA = f"""
    CREATE TABLE counted ({_COLUMNS}, PRIMARY KEY ({_KEY})) WITHOUT ROWID;
    CREATE TABLE counted_gone ({_COLUMNS}, PRIMARY KEY ({_KEY})) WITHOUT ROWID;
    CREATE TABLE counted_leaving (
        {_COLUMNS}, command TEXT NOT NULL, PRIMARY KEY (command, {_KEY})
    ) WITHOUT ROWID;
    CREATE VIEW counts AS
        SELECT * FROM counted UNION ALL SELECT * FROM counted_gone
        UNION ALL SELECT {_KEY}, count FROM counted_leaving;
    CREATE TABLE depth (
        queue TEXT NOT NULL, priority INTEGER NOT NULL, letter TEXT NOT NULL,
        count INTEGER NOT NULL, PRIMARY KEY (queue, priority, letter)
    ) WITHOUT ROWID;
    CREATE TABLE clock (second INTEGER PRIMARY KEY, sequence INTEGER NOT NULL);
"""
OF_COUNTS = ("counted", "counted_gone", "counted_leaving")
TABLES = (*OF_COUNTS, "depth", "clock", "steps")
# How many there are of a state is left out where it is none: that depends on the batches.
COMPARED = [
    Compared("counted", "SELECT * FROM counted WHERE count <> 0 ORDER BY 1, 2, 3, 4, 5, 6", 6),
    Compared("depth", "SELECT * FROM depth WHERE count <> 0 ORDER BY 1, 2, 3", 3),
]

ADD = "ON CONFLICT DO UPDATE SET count = count + excluded.count"


def add(db: apsw.Connection, counts: Counts, sign: int = 1) -> None:
    """Add what a batch counted, or with `sign` -1 take it back."""
    found = spread(counts, sign)
    rows.insert(db, "INTO counted", ((*key, n) for key, n in found.items()), then=ADD)


def deepen(db: apsw.Connection, depths: Depths) -> None:
    """Add how many more, or fewer, there are of each queue, priority and state."""
    rows.insert(db, "INTO depth", ((*key, n) for key, n in depths.items() if n), then=ADD)


def tick(db: apsw.Connection, sequences: Mapping[int, int]) -> None:
    """Remember the last sequence of each second."""
    then = "ON CONFLICT DO UPDATE SET sequence = max(sequence, excluded.sequence)"
    rows.insert(db, "INTO clock", sequences.items(), then=then)


def newest(db: apsw.Connection) -> int:
    """The last second that something is counted of, 0 for none."""
    # Not of the view of all three: each by itself is one look into its key.
    found: int = db.execute(
        """SELECT max(coalesce((SELECT max(at) FROM counted WHERE size = 1), 0),
                      coalesce((SELECT max(at) FROM counted_gone WHERE size = 1), 0))"""
    ).get
    return found


def thin_out(db: apsw.Connection) -> None:
    """Drop the seconds, minutes and hours that are longer past than they are kept.

    Of the clock's such seconds the newest stays: up to its sequence nothing is kept by the second.
    """
    last = newest(db)
    for size, kept in KEPT.items():
        for table in OF_COUNTS:
            db.execute(f"DELETE FROM {table} WHERE size = ? AND at < ?", (size, last - kept))
    db.execute(
        "DELETE FROM clock WHERE second < (SELECT max(second) FROM clock WHERE second < ?)",
        (last - KEPT[1],),
    )
