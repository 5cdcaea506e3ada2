"""Markdown, read to passages that know their headings. Never renders it.

Reads what of CommonMark (https://spec.commonmark.org) matters for finding text: headings,
paragraphs, list items, quotes and fenced code. Indented code, tables and HTML are taken for text.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from penstock.demo.readers.files import read_lines
from penstock.demo.readers.inline import plain
from penstock.demo.readers.passage import Passage, UnreadableFile
from penstock.demo.readers.prose import passages_of, words_of

_FENCE = re.compile(r"\s*(`{3,}|~{3,})(?!.*`)")
_QUOTE = re.compile(r"\A(?: {0,3}> ?)+")
_HEADING = re.compile(r" {0,3}(#{1,6})((?:[ \t].*)?)\Z")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*\Z")
_BREAK = re.compile(r" {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*\Z")
_ITEM = re.compile(r"\s*(?:[-*+][ \t]+(?:\[[ xX]\][ \t]+)?|(?=\d{1,9}[.)][ \t]))")
_DEFINITION = re.compile(r" {0,3}\[(?!\^)[^\]]+\]:")
_TABLE_RULE = re.compile(r"[ \t]*\|?(?:[ \t]*:?-+:?[ \t]*\|)+(?:[ \t]*:?-+:?)?[ \t]*\Z")
_WITHOUT_TEXT = (_BREAK, _DEFINITION, _TABLE_RULE)


def read_markdown(path: Path) -> list[Passage]:
    """The paragraphs, list items and code blocks of a Markdown file, each below its headings.

    Front matter is left out, links and emphasis are reduced to their text, code keeps its lines.
    Raises UnreadableFile.
    """
    passages = list(_Reader(read_lines(path)).passages())
    if not passages:
        raise UnreadableFile(f"{path} has no text; choose another file.")
    return passages


def _after_front_matter(lines: list[str]) -> int:
    """How many lines to leave out: none if the first `---` is a rule, never closed."""
    if lines[0].rstrip() == "---":
        for position, line in enumerate(lines[1:], 1):
            if line.rstrip() in ("---", "..."):
                return position + 1
    return 0


def _without_closing(heading: str) -> str:
    """`heading` without the `#` that may close it: those of `C#` stay."""
    bare = heading.rstrip().rstrip("#")
    return bare if bare.endswith((" ", "\t")) else heading


class _Reader:
    """One pass over the lines: the headings in force, and the paragraph under way."""

    def __init__(self, lines: list[str]) -> None:
        self._numbered = iter(enumerate(lines, 1))
        for _ in range(_after_front_matter(lines)):
            next(self._numbered)
        self._headings: list[tuple[int, str]] = []
        self._paragraph: list[str] = []
        self._line = 0  # where the paragraph begins
        self._in_item = False

    def passages(self) -> Iterator[Passage]:
        for number, raw in self._numbered:
            line = _QUOTE.sub("", raw, count=1)
            if fence := _FENCE.match(line):
                yield from self._end_paragraph()
                yield from self._code(number, fence[1], quoted=line != raw)
            else:
                yield from self._text(number, line)
        yield from self._end_paragraph()

    def _code(self, number: int, fence: str, *, quoted: bool) -> Iterator[Passage]:
        """The lines up to the closing fence, which is as long as the opening one, or longer."""
        closing = re.compile(rf"\s*{fence[0]}{{{len(fence)},}}\s*\Z")
        code: list[str] = []
        for _, raw in self._numbered:
            line = _QUOTE.sub("", raw, count=1) if quoted else raw
            if closing.match(line):
                break
            code.append(line)
        blank = next((i for i, line in enumerate(code) if line.strip()), len(code))
        if text := textwrap.dedent("\n".join(code[blank:])).rstrip():
            yield Passage(text=text, line=number + 1 + blank, headings=self._context)

    def _text(self, number: int, line: str) -> Iterator[Passage]:
        underline = _UNDERLINE.match(line)
        if heading := _HEADING.match(line):
            yield from self._end_paragraph()
            self._enter(len(heading[1]), _without_closing(heading[2]))
        elif underline and self._paragraph and not self._in_item:
            self._enter(1 if underline[1][0] == "=" else 2, " ".join(self._paragraph))
            self._paragraph = []
        elif not line.strip() or any(mark.match(line) for mark in _WITHOUT_TEXT):
            yield from self._end_paragraph()
        else:
            yield from self._words(number, line)

    def _words(self, number: int, line: str) -> Iterator[Passage]:
        if item := _ITEM.match(line):
            yield from self._end_paragraph()
            self._in_item = True
            line = line[item.end() :]
        if not self._paragraph:
            self._line = number
        self._paragraph.append(line)

    def _end_paragraph(self) -> Iterator[Passage]:
        lines = plain("\n".join(self._paragraph)).split("\n")
        words = [word for at, line in enumerate(lines, self._line) for word in words_of(line, at)]
        self._paragraph, self._in_item = [], False
        return passages_of(words, self._context)

    def _enter(self, level: int, heading: str) -> None:
        above = [known for known in self._headings if known[0] < level]
        self._headings = [*above, (level, plain(heading.strip()))]

    @property
    def _context(self) -> tuple[str, ...]:
        return tuple(text for _, text in self._headings if text)
