"""Which kinds of file there are, by suffix. Never looks into a file."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from penstock.demo.readers.passage import UnreadableFile


class Kind(StrEnum):
    """A kind of file; its value is the suffix without the dot."""

    WAV = "wav"
    SRT = "srt"
    VTT = "vtt"
    TXT = "txt"
    MD = "md"


def kind_of(path: Path) -> Kind:
    """The kind of `path` by its suffix, in either case. Raises UnreadableFile for any other."""
    try:
        return Kind(path.suffix.lower().removeprefix("."))
    except ValueError:
        known = ", ".join(f".{kind}" for kind in Kind)
        raise UnreadableFile(
            f"{path} is of no kind that can be read; convert it to one of {known}."
        ) from None
