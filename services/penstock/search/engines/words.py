"""Words as the index knows them, and the terms of a query made of them. Never ranks.

Both use the very tokenizer of the full-text index, so that what is marked is what was found. It
folds case and diacritics and stems English. It does not part words that are written without
spaces between them, as in Chinese or Japanese.
"""

from __future__ import annotations

import re
import threading
from collections import Counter

import apsw
import msgspec
import numpy as np
from msgspec import structs
from numpy.typing import NDArray

TOKENIZER = ("porter", "unicode61", "remove_diacritics", "2")

# A query leaves these out, unless it has no other words; not so in a phrase. They say nothing about
# a subject, and where documents are short they are rare enough to outrank the words that do.
_FUNCTION_WORDS = """
a an the this that these those such some any no not nor and or but if then than so
i me my we us our you your he him his she her it its they them their
who whom whose which what when where why how there here
as at by for from in into of on onto to with about between during through
be am is are was were been being have has had having do does did done
can could may might must shall should will would
"""
STOP_WORDS = frozenset(_FUNCTION_WORDS.split())

_QUOTED = re.compile(r'["“”„]([^"“”„]*)["“”„]')
# "country's" and "don't" are indexed as two words, of which the second says nothing.
_CLITIC = re.compile(r"(?<=\w)['’](?:s|t|d|m|re|ve|ll)\b", re.IGNORECASE)


class Word(msgspec.Struct, frozen=True):
    """A word of a text, from character `start` to `end`, and the `stem` it is indexed under."""

    start: int
    end: int
    stem: str


class Term(msgspec.Struct, frozen=True, kw_only=True):
    """One word of a query, or a phrase of several, in quotes there.

    `stems` are what to look for, one after the other. `match` is the same as an FTS5 expression.
    `times` is how often the query says it.
    """

    stems: tuple[str, ...]
    match: str
    times: int = 1

    @property
    def required(self) -> bool:
        """Whether a document without it is not found by words at all: true of a phrase."""
        return len(self.stems) > 1


class Tokenizer:
    """SQLite's FTS5 tokenizer outside of an index; safe to use from several threads."""

    def __init__(self) -> None:
        name, *arguments = TOKENIZER
        self._tokenize = apsw.Connection(":memory:").fts5_tokenizer(name, arguments)
        self._lock = threading.Lock()  # the stemmer keeps a buffer of its own

    def words(self, text: str) -> list[Word]:
        """The words of `text`, in order."""
        utf8 = text.encode()
        with self._lock:
            tokens: list[tuple[int, int, str]] = self._tokenize(  # type: ignore[assignment]
                utf8, apsw.FTS5_TOKENIZE_DOCUMENT, None, include_colocated=False
            )
        at = range(len(utf8) + 1) if text.isascii() else _characters(utf8)
        return [Word(int(at[start]), int(at[end]), stem) for start, end, stem in tokens]


def _characters(utf8: bytes) -> NDArray[np.int64]:
    """For each offset in bytes, that in characters."""
    begins = (np.frombuffer(utf8, dtype=np.uint8) & 0xC0) != 0x80
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(begins)])


def terms(text: str, tokenizer: Tokenizer) -> tuple[Term, ...]:
    """What `text` asks for; none where it has no words. No character of it is query syntax."""
    phrases = []
    loose = text
    for quoted in _QUOTED.finditer(text):
        words = tokenizer.words(quoted[1])
        if len(words) > 1:  # quotes around one word are for stress
            phrases.append(_term(quoted[1], words))
            loose = loose.replace(quoted[0], " ")
    loose = _CLITIC.sub("", loose)
    words = tokenizer.words(loose)
    telling = [word for word in words if loose[word.start : word.end].lower() not in STOP_WORDS]
    if not phrases and not telling:
        telling = words
    return _counted([*phrases, *(_term(loose, [word]) for word in telling)])


def _term(text: str, words: list[Word]) -> Term:
    # The words themselves, as FTS5 stems what it is given, and a stem may have another stem.
    match = " ".join(text[word.start : word.end] for word in words)
    return Term(stems=tuple(word.stem for word in words), match=f'"{match}"')


def _counted(asked: list[Term]) -> tuple[Term, ...]:
    times = Counter(term.stems for term in asked)
    distinct = {term.stems: term for term in asked}
    return tuple(structs.replace(term, times=times[stems]) for stems, term in distinct.items())
