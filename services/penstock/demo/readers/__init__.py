"""Files turned into passages: speech, subtitles, plain text and Markdown. Never over a network.

Everything here blocks. Text takes milliseconds; speech takes about a third of its length, and
pocketsphinx holds the interpreter lock meanwhile, so that a thread would stall the event loop for
seconds: run `read_passages` in a process.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import assert_never

from penstock.demo.readers.kinds import Kind, kind_of
from penstock.demo.readers.markdown import read_markdown
from penstock.demo.readers.passage import Passage, UnreadableFile
from penstock.demo.readers.prose import read_text
from penstock.demo.readers.subtitles import read_srt, read_vtt

__all__ = ["Kind", "Passage", "UnreadableFile", "kind_of", "read_passages"]


def read_passages(path: Path, on_progress: Callable[[float], None] | None = None) -> list[Passage]:
    """The passages of `path`, at least one, in the order of the file.

    `on_progress` is called with the part that is done, from 0 to 1; for speech it is called again
    and again. Raises UnreadableFile, whose sentence says what to do.
    """
    passages = _passages(path, on_progress or (lambda fraction: None))
    if on_progress is not None:
        on_progress(1.0)
    return passages


def _passages(path: Path, on_progress: Callable[[float], None]) -> list[Passage]:
    kind = kind_of(path)
    match kind:
        case Kind.WAV:
            from penstock.demo.readers.speech import transcribe

            return list(transcribe(path, on_progress))
        case Kind.SRT:
            return read_srt(path)
        case Kind.VTT:
            return read_vtt(path)
        case Kind.TXT:
            return read_text(path)
        case Kind.MD:
            return read_markdown(path)
        case _:
            assert_never(kind)
