"""The files of a service's view: how one is opened, and which of them is the view.

A file is the view once it bears the stamp of its schema, which is the last thing written to it:
half a view is never taken for a whole one, whenever the process was killed. Never reads a row.
"""

from __future__ import annotations

import hashlib
import logging
from contextlib import closing
from pathlib import Path

import apsw

log = logging.getLogger(__name__)

SUFFIX = ".sqlite"
# The database goes first: without its log it may be damaged, and must not be found then.
_PARTS = ("", "-wal", "-shm")


class ViewFiles:
    """`<service>.<generation>.sqlite` in one directory, which belongs to one process.

    Each rebuild makes the next generation; the newest that is stamped is the view.
    """

    def __init__(self, directory: Path, service: str) -> None:
        self._directory = directory
        self._service = service

    @property
    def scratch(self) -> Path:
        """A file for a fold that nobody will be answered from."""
        return self._directory / f"{self._service}.scratch{SUFFIX}"

    def present(self, stamp: int) -> Path:
        """The view's file, or where to make one. All others are removed: nobody may use them."""
        stamped = (path for path in reversed(self._generations()) if stamp_of(path) == stamp)
        present = next(stamped, None) or self.following()
        for path in self._directory.glob(f"{self._service}.*{SUFFIX}*"):
            if not path.name.startswith(present.name):
                path.unlink(missing_ok=True)
        return present

    def following(self) -> Path:
        """Where the next generation goes."""
        last = max(map(_generation, self._generations()), default=0)
        return self._directory / f"{self._service}.{last + 1}{SUFFIX}"

    def _generations(self) -> list[Path]:
        found = self._directory.glob(f"{self._service}.*{SUFFIX}")
        return sorted((path for path in found if _generation(path)), key=_generation)


def _generation(path: Path) -> int:
    number = path.name.split(".")[1]
    return int(number) if number.isdecimal() else 0


def remove(path: Path) -> None:
    """Remove a database that nobody has open."""
    for part in _PARTS:
        path.with_name(path.name + part).unlink(missing_ok=True)


def connect(
    path: Path, flags: int = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
) -> apsw.Connection:
    """A connection as views need it. Raises apsw.Error."""
    db = apsw.Connection(str(path), flags=flags)
    db.set_busy_timeout(5000)
    # Fetched whole: after the first statement that gives a row, the others wait to be asked for.
    db.execute(
        # A page for each write: the fewer the better, but one that changes is written as a whole.
        # A checkpoint of the write-ahead log syncs the disk: every 32 MB is often enough.
        "PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
        "PRAGMA wal_autocheckpoint = 4000; PRAGMA cache_size = -32768; PRAGMA temp_store = MEMORY;"
        # What is erased is overwritten, not only let go of.
        "PRAGMA secure_delete = ON"
    ).fetchall()
    return db


def stamp_of(path: Path) -> int:
    """The stamp of a file; 0 if it has none, is not there or is damaged."""
    if not path.exists():
        return 0
    try:
        with closing(connect(path)) as db:
            stamp: int = db.execute("PRAGMA user_version").get
    except (apsw.CorruptError, apsw.NotADBError):
        log.warning("%s is damaged and is made anew from the events", path.name)
        return 0
    return stamp


def put_stamp(db: apsw.Connection, stamp: int) -> None:
    """Declare a view whole, within the transaction that made it so if there is one."""
    db.execute(f"PRAGMA user_version = {stamp}")


def fingerprint(*parts: str) -> int:
    """The stamp for a schema and whatever else a view depends on; never 0."""
    digest = hashlib.blake2b("\0".join(parts).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") & 0x7FFF_FFFF or 1
