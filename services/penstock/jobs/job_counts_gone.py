"""What jobs count for that are gone from the log: until their tally comes, and from it. Never reads
a job.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import apsw

from penstock.contracts.job_tally import Counted
from penstock.infra.views import rows
from penstock.jobs.job_counts import ADD
from penstock.jobs.job_moves import RUN, SIZES, WAIT, Counts, spread


def leave(db: apsw.Connection, counts: Counts, command: str) -> None:
    """Jobs that a command takes out count for this. Its tally takes the place of it."""
    found = ((*key, n, command) for key, n in spread(counts).items())
    rows.insert(db, "INTO counted_leaving", found, then=ADD)


def tallied(db: apsw.Connection, counts: Iterable[Counted], command: str, now: int) -> None:
    """Count what the tally of a command says, which was made `now`, in Unix seconds."""
    rows.delete(db, "counted_leaving WHERE command", [command])
    # So that it is told as finely as it is counted: as if something had happened now.
    gone = [(1, now, "", "", "", 0, 0), *(row for one in counts for row in _rows(one))]
    rows.insert(db, "INTO counted_gone", gone, then=ADD)


def _rows(one: Counted) -> Iterator[rows.Row]:
    """One for each span that it is in, from its own on."""
    for size in SIZES[1:] if one.what in (WAIT, RUN) else SIZES:
        if size >= one.size:
            at = one.at - one.at % size
            yield size, at, one.queue, one.name, one.what, one.bucket, one.count
