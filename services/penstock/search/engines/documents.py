"""What goes into an index and what comes out: document, query, hits. Never how they are found."""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.contracts.errors import InvalidMessage

LONGEST_TEXT = 10_000
LARGEST_PAGE = 1_000


class IndexedDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A document as the index holds it; `id` is its key.

    `metadata` holds JSON values: text, numbers, booleans, null, lists, and objects whose fields
    a filter names with dots. `sequence` is that of the event it came from.
    """

    id: str
    title: str | None = None
    content: str
    metadata: dict[str, Any] = {}
    sequence: int


class Highlighting(msgspec.Struct, frozen=True, kw_only=True):
    """How matches are shown: at most `fragments` pieces of about `size` characters each."""

    fragments: int = 3
    size: int = 160
    before: str = "<mark>"
    after: str = "</mark>"
    escape_html: bool = False


class Fragment(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a document's content, with the places in it that match.

    `content[start : start + len(text)] == text`, and each of `ranges` is the start and the end of
    a match, in characters from the start of `text`. `marked` is `text` with its matches marked.
    """

    text: str
    start: int
    ranges: tuple[tuple[int, int], ...]
    marked: str


class IndexQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What to look for. Without `text` the documents that pass `filters` are listed by id.

    `hybrid` looks for meaning as well as words, and `alpha` is the weight of meaning: 0 is words
    only, 1 meaning only. `threshold` cuts on `Hit.relevance`. `filters` maps a metadata field to
    a value or to `{operator: operand}`; all must hold. Several words in "quotes" are a phrase,
    and a document without it is not found by words. `highlighting=None` leaves fragments out.
    """

    text: str = ""
    limit: int = 10
    offset: int = 0
    threshold: float = 0.0
    hybrid: bool = True
    alpha: float = 0.4
    filters: dict[str, Any] = {}
    highlighting: Highlighting | None = Highlighting()

    @property
    def weight_of_meaning(self) -> float:
        """The share of meaning in the ranking, 0..1."""
        return self.alpha if self.hybrid else 0.0

    def check(self) -> None:
        """Raise InvalidMessage unless this can be answered."""
        if not self.text.strip() and not self.filters:
            raise InvalidMessage("Give a text to search for, or filters to list by.", path="text")
        if len(self.text) > LONGEST_TEXT:
            raise InvalidMessage(
                f"Search for at most {LONGEST_TEXT} characters, not {len(self.text)}.", path="text"
            )
        _within("limit", self.limit, 1, LARGEST_PAGE)
        _within("offset", self.offset, 0, 2**31)
        _within("threshold", self.threshold, 0, 1)
        _within("alpha", self.alpha, 0, 1)
        if self.highlighting:
            _within("highlighting.fragments", self.highlighting.fragments, 1, 100)
            _within("highlighting.size", self.highlighting.size, 1, 10_000)


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """A document that was found.

    `score` orders the hits of one answer and means nothing beside another answer's.

    `relevance` is absolute, 0..1, and what a threshold cuts: the larger of `keyword` and
    `similarity`. `keyword` is the document's BM25 score as a share of what a document of average
    length gets that says every word of the query once, at most 1. `similarity` is the cosine
    between the query and the nearest passage of the document, at least 0. Each is 0 where the
    query did not look for it; a listed document, found by filters alone, has the relevance 1.
    """

    document: IndexedDocument
    score: float
    relevance: float
    keyword: float = 0.0
    similarity: float = 0.0
    fragments: tuple[Fragment, ...] = ()


class Hits(msgspec.Struct, frozen=True, kw_only=True):
    """One page of hits, best first; `total` counts all that reach the threshold."""

    hits: tuple[Hit, ...] = ()
    total: int = 0


def _within(path: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InvalidMessage(f"{path} must be between {low} and {high}, not {value}.", path=path)
