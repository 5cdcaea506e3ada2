"""What every reader gives, and the one error that it raises. Never any reading."""

from __future__ import annotations

import msgspec


class Passage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A piece of a file that is worth finding on its own, and where in the file it is.

    `start` and `end` are seconds, for what was spoken or shown; `line` counts from 1, for what
    was written. `headings` are those it stands under, the outermost first.
    """

    text: str
    start: float | None = None
    end: float | None = None
    line: int | None = None
    speaker: str | None = None
    headings: tuple[str, ...] = ()


class UnreadableFile(Exception):  # noqa: N818 - errors are named for what happened
    """The file cannot be read. `str(error)` is one sentence: which file, why, and what to do."""
