"""Shows where a document matches: fragments of its content, matches marked. Never searches."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from penstock.search.engines.documents import Fragment, Highlighting
from penstock.search.engines.words import Term, Tokenizer, Word

_SPACES = re.compile(r"\s+")
_LAST_SPACE = re.compile(r"\s\S*$")


class _Match(NamedTuple):
    start: int
    end: int
    stems: tuple[str, ...]


class _Window(NamedTuple):
    """Matches that fit into one fragment; the greater window shows more of the query."""

    different: int
    matches: int
    earliness: int
    start: int
    end: int


def highlight(
    content: str,
    terms: Sequence[Term],
    tokenizer: Tokenizer,
    options: Highlighting,
    *,
    otherwise: int = 0,
) -> tuple[Fragment, ...]:
    """The fragments of `content` that show `terms` best, the best first; they never overlap.

    Where no term occurs it is the one that begins at character `otherwise`. Works without an
    index, so that every engine's hits are shown alike.
    """
    matches = list(_matches(tokenizer.words(content), terms))
    spans = _best_spans(content, matches, options) or [_opening(content, otherwise, options.size)]
    return tuple(_fragment(content, span, matches, options) for span in spans if span[0] < span[1])


def _matches(words: Sequence[Word], terms: Sequence[Term]) -> Iterator[_Match]:
    """Where a term occurs, in order and apart: of two that begin with one word, the longer."""
    by_stem: dict[str, list[tuple[str, ...]]] = {}
    for stems in sorted({term.stems for term in terms}, key=len, reverse=True):
        by_stem.setdefault(stems[0], []).append(stems)
    at = 0
    while at < len(words):
        length = 1
        for stems in by_stem.get(words[at].stem, ()):
            if stems == tuple(word.stem for word in words[at : at + len(stems)]):
                length = len(stems)
                yield _Match(words[at].start, words[at + length - 1].end, stems)
                break
        at += length


def _best_spans(
    content: str, matches: Sequence[_Match], options: Highlighting
) -> list[tuple[int, int]]:
    chosen: list[tuple[int, int]] = []
    for window in sorted(_windows(matches, options.size), reverse=True):
        if len(chosen) == options.fragments:
            break
        if all(window.end <= start or end <= window.start for start, end in chosen):
            low = max((end for _, end in chosen if end <= window.start), default=0)
            high = min((start for start, _ in chosen if start >= window.end), default=len(content))
            chosen.append(_widened(content, window, options.size, low, high))
    return chosen


def _windows(matches: Sequence[_Match], size: int) -> Iterator[_Window]:
    """For each match, the window of at most `size` characters that ends with it."""
    inside: Counter[tuple[str, ...]] = Counter()
    first = 0
    for last, match in enumerate(matches):
        inside[match.stems] += 1
        while first < last and match.end - matches[first].start > size:
            inside[matches[first].stems] -= 1
            first += 1
        start = matches[first].start
        yield _Window(len(+inside), last - first + 1, -start, start, match.end)


def _widened(content: str, window: _Window, size: int, low: int, high: int) -> tuple[int, int]:
    """`window` and whole words around it, up to `size` characters and from `low` to `high`."""
    spare = max(0, size - (window.end - window.start))
    start = max(low, window.start - spare // 2)
    end = min(high, window.end + spare - (window.start - start))
    return _word_start(content, start, window.start), _word_end(content, window.end, end)


def _opening(content: str, start: int, size: int) -> tuple[int, int]:
    if spaces := _SPACES.match(content, start):
        start = spaces.end()
    return start, _word_end(content, start, min(len(content), start + size))


def _word_start(content: str, start: int, latest: int) -> int:
    """The first place from `start` to `latest` where a word begins."""
    if start == 0:
        return start
    spaces = _SPACES.search(content, start - 1, latest)
    return spaces.end() if spaces else start


def _word_end(content: str, earliest: int, end: int) -> int:
    """The last place from `earliest` to `end` where a word ends."""
    piece = content[earliest : end + 1]
    if end < len(content) and (space := _LAST_SPACE.search(piece)):
        return earliest + len(piece[: space.start()].rstrip())
    return end


def _fragment(
    content: str, span: tuple[int, int], matches: Iterable[_Match], options: Highlighting
) -> Fragment:
    start, end = span
    text = content[start:end]
    ranges = tuple(
        (m.start - start, m.end - start) for m in matches if start <= m.start and m.end <= end
    )
    return Fragment(text=text, start=start, ranges=ranges, marked=_marked(text, ranges, options))


def _marked(text: str, ranges: Iterable[tuple[int, int]], options: Highlighting) -> str:
    shown = html.escape if options.escape_html else str
    pieces, done = [], 0
    for start, end in ranges:
        pieces += [shown(text[done:start]), options.before, shown(text[start:end]), options.after]
        done = end
    return "".join([*pieces, shown(text[done:])])
