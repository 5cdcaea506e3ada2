"""`tools/bench eventlog`: appends, loads, folds and rebuilds beside raw nats-py and the
`eventsourcing` library on SQLite and, where one is given, PostgreSQL.

The systems take turns, and the medians are compared, since shared machines drift. Asserts nothing
about speed.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import sqlite3
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.eventlog.appends import appends
from benchmarks.eventlog.figures import Figure, show
from benchmarks.eventlog.folds import folds
from benchmarks.eventlog.library import NEEDS_PSYCOPG
from benchmarks.eventlog.loads import loads
from benchmarks.eventlog.material import PER_AGGREGATE, size

PARTS = ("append", "load", "fold")


async def measure(options: argparse.Namespace) -> list[Figure]:
    """Every figure asked for, each part on servers and data of its own."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as scratch:
        directory = Path(scratch)
        if "append" in options.only:
            figures += await appends(directory, options.postgres)
        if "load" in options.only:
            figures += await loads(directory, options.postgres, options.events)
        if "fold" in options.only:
            figures += await folds(directory, options.postgres, options.folded)
    return figures


def notes(postgres: str | None) -> Sequence[str]:
    """What has to be known about the figures."""
    return [
        f"Events of {size()} bytes, {PER_AGGREGATE} an aggregate; all servers on this machine.",
        "fsync: every acknowledgement waits for the disk (nats-server `sync_interval: always`, "
        "SQLite WAL with synchronous=FULL, PostgreSQL synchronous_commit=on). os: none does "
        "(nats-server's default, synchronous=NORMAL, synchronous_commit=off).",
        "SQLite and PostgreSQL: the eventsourcing library's own recorders; 64 callers are threads. "
        f"SQLite {sqlite3.sqlite_version}"
        + ("." if postgres else "; PostgreSQL was not given (--postgres URL)."),
        "os over fsync: under raw nats-py, ours in os over what atomic batches of 64, one behind "
        "the other, do in fsync: the server's own limit for 64 callers who wait.",
        "rebuild: the library writes each event's change and tracking in a transaction, as its "
        "projections do.",
    ]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="tools/bench eventlog", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="among which one is loaded")
    parser.add_argument("--folded", type=int, default=200_000, help="events to fold")
    parser.add_argument(
        "--postgres",
        metavar="URL",
        default=os.environ.get("PENSTOCK_BENCH_POSTGRES"),
        help="a PostgreSQL to measure as well, postgresql://user:password@host/database; it gets "
        "schemas of its own, which are dropped (PENSTOCK_BENCH_POSTGRES)",
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure")
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    options = parser.parse_args()
    if options.postgres and not importlib.util.find_spec("psycopg"):
        print(NEEDS_PSYCOPG, file=sys.stderr)
        return 2
    figures = asyncio.run(measure(options))
    if options.json:
        print(msgspec.json.encode(figures).decode())
    else:
        show(figures, notes(options.postgres))
    return 0


if __name__ == "__main__":
    sys.exit(main())
