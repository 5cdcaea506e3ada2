"""SubRip and WebVTT, read to passages with their times. Never guesses what a broken cue means."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from penstock.demo.readers.files import read_lines
from penstock.demo.readers.passage import Passage, UnreadableFile


class _Syntax(msgspec.Struct, frozen=True):
    """In what the two formats differ."""

    time: re.Pattern[str]  # with the groups hours, minutes, seconds and fraction
    timing: str  # an example, for whoever has to correct one
    markup: re.Pattern[str]
    has_entities: bool


class _Block(msgspec.Struct, frozen=True):
    """Lines without a blank one between them; `line` is the number of the first."""

    line: int
    lines: list[str]


_SRT = _Syntax(
    time=re.compile(r"(\d+):([0-5]?\d):([0-5]?\d)[,.](\d{1,3})"),
    timing="00:00:01,000 --> 00:00:02,500",
    markup=re.compile(r"</?[a-zA-Z][^<>]*>|\{\\[^{}]*\}"),
    has_entities=False,
)
_VTT = _Syntax(
    time=re.compile(r"(?:(\d{2,}):)?([0-5]\d):([0-5]\d)\.(\d{3})"),
    timing="00:01.000 --> 00:02.500",
    markup=re.compile(r"<[^<>]*>"),
    has_entities=True,
)
_ASIDE = re.compile(r"NOTE([ \t]|\Z)|(STYLE|REGION)[ \t]*\Z")
_VOICE = re.compile(r"<v(?:\.[^ \t>]*)?[ \t]+([^<>]+)>")


def read_srt(path: Path) -> list[Passage]:
    """The cues of a SubRip file; mark-up such as `<i>` and `{\\an8}` is left out.

    Raises UnreadableFile, with the line of the first cue that is malformed.
    """
    return _read(path, _blocks(read_lines(path)), _SRT)


def read_vtt(path: Path) -> list[Passage]:
    """The cues of a WebVTT file: tags left out, character references decoded, voices kept.

    Source: https://www.w3.org/TR/webvtt1/. Raises UnreadableFile, with the line of the first cue
    that is malformed.
    """
    lines = read_lines(path)
    if not re.match(r"WEBVTT([ \t]|\Z)", lines[0]):
        raise UnreadableFile(f"{path}, line 1: a WebVTT file begins with WEBVTT; add that line.")
    _header, *blocks = _blocks(lines)
    return _read(path, (block for block in blocks if not _ASIDE.match(block.lines[0])), _VTT)


def _blocks(lines: Sequence[str]) -> Iterator[_Block]:
    held: list[str] = []
    for number, line in enumerate([*lines, ""], 1):
        if line.strip():
            held.append(line)
        elif held:
            yield _Block(number - len(held), held)
            held = []


def _read(path: Path, blocks: Iterable[_Block], syntax: _Syntax) -> list[Passage]:
    passages = [passage for block in blocks if (passage := _cue(path, block, syntax)).text]
    if not passages:
        raise UnreadableFile(f"{path} has no cue with text; choose another file.")
    return passages


def _cue(path: Path, block: _Block, syntax: _Syntax) -> Passage:
    """The cue of `block`: a number or a name if it has one, the times, the text."""
    named = len(block.lines) > 1 and "-->" not in block.lines[0]
    timing, *text = block.lines[named:]
    line = block.line + named
    for number, other in enumerate(text, line + 1):
        if "-->" in other:
            raise UnreadableFile(
                f"{path}, line {number}: the text of a cue holds -->; put a blank line before the"
                " cue that begins here."
            )
    start, end = _times(f"{path}, line {line}", timing, syntax)
    whole = " ".join(text)
    voice = _VOICE.search(whole) if syntax.has_entities else None
    return Passage(
        text=_plain(whole, syntax),
        start=start,
        end=end,
        line=line,
        speaker=_plain(voice[1], syntax) if voice else None,
    )


def _times(place: str, timing: str, syntax: _Syntax) -> tuple[float, float]:
    """Both times in seconds; what follows them, the settings of WebVTT, is left out."""
    start, arrow, rest = timing.partition("-->")
    end, *_settings = rest.split() or [""]
    times = [syntax.time.fullmatch(time) for time in (start.strip(), end)]
    if not (arrow and times[0] and times[1]):
        raise UnreadableFile(
            f"{place}: a cue begins with times such as {syntax.timing}; write them."
        )
    seconds = _seconds(times[0]), _seconds(times[1])
    if seconds[1] < seconds[0]:
        raise UnreadableFile(f"{place}: the cue ends before it starts; correct its times.")
    return seconds


def _seconds(time: re.Match[str]) -> float:
    hours, minutes, seconds, fraction = time.groups(default="0")
    whole = (int(hours) * 60 + int(minutes)) * 60 + int(seconds)
    return (whole * 1000 + int(fraction.ljust(3, "0"))) / 1000


def _plain(text: str, syntax: _Syntax) -> str:
    """`text` without mark-up, on one line."""
    bare = syntax.markup.sub("", text)
    return " ".join((html.unescape(bare) if syntax.has_entities else bare).split())
