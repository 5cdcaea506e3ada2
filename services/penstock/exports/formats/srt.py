"""SubRip: numbered cues in order of start. Never writes what players take for another cue.

There is no standard; this follows what players read: https://en.wikipedia.org/wiki/SubRip.
A segment without text gets no cue, for there is nothing to show. Mark-up such as `<i>` stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from penstock.contracts.exports import Document, Segment
from penstock.exports.formats.format import Format
from penstock.exports.formats.wording import spoken

_ARROW = re.compile("-{2,}>")  # the whole run: `--->` less one dash would be an arrow again
_NUMBER_LINE = re.compile(r"\n(?=-?[0-9.]+(?:\n|\Z))")


def _write(document: Document) -> Iterator[str]:
    cues = sorted((s for s in document.segments if s.text.strip()), key=_start)
    for number, cue in enumerate(cues, 1):
        times = f"{_timestamp(_start(cue))} --> {_timestamp(_end(cue))}"
        yield f"{number}\n{times}\n{_body(cue)}\n\n"


def _start(cue: Segment) -> float:
    assert cue.start is not None  # `Format.check` has seen to it
    return cue.start


def _end(cue: Segment) -> float:
    assert cue.end is not None
    return cue.end


def _timestamp(seconds: float) -> str:
    """`HH:MM:SS,mmm`, with more digits for the hours from 100 on.

    Rounds once, in whole milliseconds: parts rounded one by one give `00:00:59,1000`.
    """
    rest, milliseconds = divmod(round(seconds * 1000), 1000)
    rest, whole_seconds = divmod(rest, 60)
    hours, minutes = divmod(rest, 60)
    return f"{hours:02}:{minutes:02}:{whole_seconds:02},{milliseconds:03}"


def _body(cue: Segment) -> str:
    """The lines of the cue, with no line that readers take for the end of it.

    They see an end in a blank line, in an arrow and, some of them, in a line that is a number;
    that one is joined to the line before it.
    """
    lines = (line.strip() for line in _ARROW.sub("->", spoken(cue)).splitlines())
    return _NUMBER_LINE.sub(" ", "\n".join(line for line in lines if line))


SRT = Format(name="srt", media_type="application/x-subrip", suffix=".srt", write=_write, timed=True)
