"""Holds the directory of one running system: its lock and what it tells about itself.

It never looks into what the parts of the system keep below it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from penstock.client.discovery import LOCK, SYSTEM, RunningSystem, read_system, without_password
from penstock.contracts.errors import StartupError

LOCK_PATIENCE = 0.5
"""Seconds to wait for a lock: those who look whether it is held, hold it for an instant."""


class DataDirectory:
    """A data directory, ours alone from `with` to its end.

    It is created for its owner only (0700) and kept out of version control. `path` is absolute.

    Raises `StartupError` on entering if the directory cannot be created or written to, or if
    another system already runs on it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock = FileLock(self.path / LOCK)

    def __enter__(self) -> Self:
        with usable(self.path):
            create_private_directory(self.path)
            if not self._lock.acquire():
                raise StartupError(self._occupied())
        # Left by a system that died: nobody may take it for ours.
        self._forget()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._forget()
        self._lock.release()

    def announce(self, system: RunningSystem) -> None:
        """Let applications find `system` here, until the directory is given back."""
        write_private(self.path / SYSTEM, msgspec.json.encode(system))

    def _forget(self) -> None:
        (self.path / SYSTEM).unlink(missing_ok=True)

    def _occupied(self) -> str:
        system = read_system(self.path)
        if system is None:
            return f"Another Penstock is just starting or stopping on {self.path}: try again."
        return (
            f"Penstock already runs on {self.path}: process {system.pid} since "
            f"{system.started:%Y-%m-%d %H:%M:%S %Z}, NATS at {without_password(system.nats_url)}, "
            f"HTTP at {system.http_url}; stop it, or set PENSTOCK_DATA to another directory."
        )


class FileLock:
    """An exclusive lock on a file, which the kernel releases when its holder dies, however."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether we hold it."""
        return self._descriptor is not None

    def acquire(self) -> bool:
        """Take the lock; False if somebody else keeps it. Raises `OSError`."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + LOCK_PATIENCE
        try:
            while not _try_lock(descriptor):
                if time.monotonic() > deadline:
                    os.close(descriptor)
                    return False
                time.sleep(0.01)
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Give the lock back; nothing happens if it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def create_private_directory(path: Path) -> None:
    """Create `path` and its parents, itself for the owner only, and prove that one can write there.

    A `.gitignore` in it keeps credentials and data out of version control. Raises `OSError`.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path):
        pass
    ignore = path / ".gitignore"
    if not ignore.exists():
        write_private(ignore, b"*\n")


def write_private(path: Path, content: bytes) -> None:
    """Replace `path` as a whole, readable by its owner only (0600).

    Whoever reads it, and whoever comes after a crash, finds the old content or the new. There must
    be one writer at a time. Raises `OSError`.
    """
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    fresh.replace(path)


def sync(path: Path) -> None:
    """Bring a file, or the names in a directory, to the disk. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def usable(path: Path) -> Iterator[None]:
    """What is done inside with the directory `path`: an `OSError` becomes a `StartupError`."""
    try:
        yield
    except OSError as error:
        raise StartupError(
            f"The data directory {path} cannot be used ({error.strerror}): "
            "make it a directory that you may write to, or set PENSTOCK_DATA to another."
        ) from error


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
