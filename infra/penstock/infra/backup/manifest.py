"""What a backup says of itself, and whether its files are what it says. Never talks to a server."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from penstock.contracts.errors import PenstockError
from penstock.infra.data_directory import write_private

FORMAT = 1
MANIFEST = "manifest.json"
PIECE = 1024 * 1024  # bytes read at a time

Tell = Callable[[str, str, float], None]
"""Told of progress: what is done, to which stream, and how much of it, from 0 to 1."""


class BackupError(PenstockError):
    """A backup cannot be made, used or trusted; nothing was changed."""

    code, title, status = "backup", "Backup or restore failed", 500


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """The messages of a stream: `digest` is the SHA-256 over all of them, with their places."""

    messages: int
    first: int
    last: int
    digest: str


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """A durable consumer, and the stream sequence up to which everything is acknowledged."""

    name: str
    config: dict[str, Any]
    floor: int


class StreamCopy(msgspec.Struct, frozen=True, kw_only=True):
    """One stream: its configuration and state as the server gave them, and the file of it.

    `contents` is what a server made of the file, after that was compared with the original; None
    if the backup was not verified.
    """

    name: str
    config: dict[str, Any]
    state: dict[str, Any]
    file: str
    size: int
    sha256: str
    consumers: tuple[Position, ...] = ()
    contents: Contents | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A backup. `checksum` is the SHA-256 of this without it."""

    format: int
    penstock: str
    server: str
    prefix: str
    begun: datetime
    ended: datetime
    streams: tuple[StreamCopy, ...]
    checksum: str = ""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(copy.size for copy in self.streams)


class _Format(msgspec.Struct):
    format: int


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write it, with its checksum, to the disk. Raises OSError."""
    sealed = replace(manifest, checksum=_checksum(manifest))
    write_private(directory / MANIFEST, msgspec.json.format(msgspec.json.encode(sealed)))


def read_manifest(directory: Path) -> Manifest:
    """The manifest in `directory`. Raises BackupError if it has none that can be used."""
    try:
        body = (directory / MANIFEST).read_bytes()
        found = msgspec.json.decode(body, type=_Format).format
        if found > FORMAT:
            raise BackupError(
                f"The backup {directory} has format {found} and this Penstock reads up to "
                f"{FORMAT}: use the version that made it, or a newer one."
            )
        manifest = msgspec.json.decode(body, type=Manifest)
    except OSError as error:
        raise BackupError(
            f"{directory} is no backup: its {MANIFEST} cannot be read ({error.strerror})."
        ) from error
    except msgspec.DecodeError as error:
        raise _damaged(directory, f"its {MANIFEST} cannot be read: {error}") from error
    if manifest.checksum != _checksum(manifest):
        raise _damaged(directory, f"its {MANIFEST} was changed since it was written")
    return manifest


def check_files(directory: Path, manifest: Manifest, tell: Tell) -> None:
    """Read every file again. Raises BackupError for one that is missing or not as it was."""
    for copy in manifest.streams:
        try:
            size, sha256 = _read(directory / copy.file, copy, tell)
        except OSError as error:
            reason = f"its file {copy.file} cannot be read ({error.strerror})"
            raise _damaged(directory, reason) from error
        if size != copy.size:
            reason = f"its file {copy.file} has {size} bytes, not {copy.size}"
            raise _damaged(directory, reason)
        if sha256 != copy.sha256:
            raise _damaged(directory, f"its file {copy.file} was changed since it was written")


def _read(path: Path, copy: StreamCopy, tell: Tell) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
            size += len(piece)
            tell("checking", copy.name, min(size / max(copy.size, 1), 1.0))
    tell("checking", copy.name, 1.0)
    return size, digest.hexdigest()


def _checksum(manifest: Manifest) -> str:
    return hashlib.sha256(msgspec.json.encode(replace(manifest, checksum=""))).hexdigest()


def _damaged(directory: Path, reason: str) -> BackupError:
    return BackupError(f"The backup {directory} is damaged: {reason}; use another one.")
