"""Which files a run is about, and by what names the system knows them. Never parses them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

SKIPPED = {"node_modules", "exports", "dist", "build"}
MOST_FOUND = 40


class SourceFile(msgspec.Struct, frozen=True):
    """A file given by the user.

    `key` names the path in ids, whatever the file holds; `digest` names what it holds now, or why
    that cannot be told, so that each content is its own job.
    """

    path: Path
    shown: str
    key: str
    digest: str

    @property
    def cache_key(self) -> str:
        """Where its result is cached."""
        return f"ingest:{self.key}"

    @property
    def tag(self) -> str:
        """What the cache entry depends on: the entity `file` with the id `key`."""
        return f"file:{self.key}"

    def job(self, run: int) -> str:
        """The id of the job that ingests this content, the `run`-th time that it is tried."""
        return f"ingest-{self.key}-{self.digest}-{run}"


def source_file(path: Path) -> SourceFile:
    """Name `path`, which need not exist: its job will say so."""
    absolute = path.absolute()
    place = hashlib.blake2b(str(absolute).encode(), digest_size=5).hexdigest()
    return SourceFile(
        path=absolute,
        shown=str(_short(absolute)),
        key=f"{absolute.name[:80]}-{place}",
        digest=_digest(absolute),
    )


def markdown_here(directory: Path) -> list[Path]:
    """The Markdown files below `directory`, without hidden, installed and generated ones."""
    found = (path for path in sorted(directory.rglob("*.md")) if path.is_file())
    return [path for path in found if _wanted(path.relative_to(directory).parts)][:MOST_FOUND]


def _wanted(parts: Iterable[str]) -> bool:
    return not any(part.startswith(".") or part in SKIPPED for part in parts)


def _short(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:12]
    except FileNotFoundError:
        return "missing"
    except OSError:
        return "unreadable"
