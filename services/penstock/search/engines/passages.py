"""Cuts a long content into passages, each short enough to have one meaning. Never drops text."""

from __future__ import annotations

import math
import re

LENGTH = 1_200  # characters: about two paragraphs

Span = tuple[int, int]

_SENTENCE_END = re.compile(r"""[.!?]["')\]]*\s|[。！？\n]""")
_SPACE = re.compile(r"\s")


def passages(content: str, length: int = LENGTH) -> list[Span]:
    """Start and end of each passage in characters, in order; together they are `content`.

    Passages are of like length, at most `length`, and end with a sentence where they can, else
    between words. There is always one, if an empty one.
    """
    spans: list[Span] = []
    start = 0
    while len(content) - start > length:
        end = _cut(content, start, length)
        spans.append((start, end))
        start = end
    return [*spans, (start, len(content))]


def _cut(content: str, start: int, length: int) -> int:
    remaining = len(content) - start
    # Even shares: a last passage of a few words would seem very near to any query that has them.
    share = math.ceil(remaining / math.ceil(remaining / length))
    middle, end = start + share // 2, start + share
    for boundary in (_SENTENCE_END, _SPACE):
        if found := [match.end() for match in boundary.finditer(content, middle, end)]:
            return found[-1]
    return end
