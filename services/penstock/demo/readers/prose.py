"""Plain text, split by paragraph, and long paragraphs by sentence. Never looks for mark-up."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from math import ceil
from pathlib import Path
from typing import NamedTuple

from penstock.demo.readers.files import read_lines
from penstock.demo.readers.passage import Passage, UnreadableFile

LONGEST = 120  # words: about what a reader takes in at a glance, and an embedding still tells apart

_SENTENCE_END = re.compile(r"""[.!?…][.!?…"'”’)\]]*\Z""")


class Word(NamedTuple):
    """A word, and the number of the line where it stands."""

    text: str
    line: int


def read_text(path: Path) -> list[Passage]:
    """The paragraphs of a text file, those above 120 words in parts of whole sentences.

    Raises UnreadableFile.
    """
    passages: list[Passage] = []
    words: list[Word] = []
    for number, line in enumerate([*read_lines(path), ""], 1):
        if line.strip():
            words += words_of(line, number)
        else:
            passages += passages_of(words)
            words = []
    if not passages:
        raise UnreadableFile(f"{path} has no text; choose another file.")
    return passages


def words_of(line: str, number: int) -> list[Word]:
    """The words of one line."""
    return [Word(text, number) for text in line.split()]


def passages_of(paragraph: Sequence[Word], headings: tuple[str, ...] = ()) -> Iterator[Passage]:
    """`paragraph` as one passage, or as several of about the same length if it is long."""
    for part in _parts(paragraph):
        yield Passage(
            text=" ".join(word.text for word in part), line=part[0].line, headings=headings
        )


def _parts(paragraph: Sequence[Word]) -> Iterator[Sequence[Word]]:
    if not paragraph:
        return
    aim = ceil(len(paragraph) / ceil(len(paragraph) / LONGEST))
    part: list[Word] = []
    for sentence in _sentences(paragraph, aim):
        if part and len(part) + len(sentence) > LONGEST:
            yield part
            part = []
        part.extend(sentence)
        if len(part) >= aim:
            yield part
            part = []
    if part:
        yield part


def _sentences(paragraph: Iterable[Word], longest: int) -> Iterator[Sequence[Word]]:
    """Sentences, cut where they are longer than `longest` words."""
    sentence: list[Word] = []
    for word in paragraph:
        sentence.append(word)
        if len(sentence) == longest or _SENTENCE_END.search(word.text):
            yield sentence
            sentence = []
    if sentence:
        yield sentence
