"""Search: its commands, events, state and queries, version 1. Never any logic."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from penstock.contracts.answers import Question
from penstock.contracts.envelope import Time, command, event

SERVICE = "search"
Content = Annotated[str, msgspec.Meta(max_length=1_000_000)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What all messages here share. States and hits, unlike messages, always show every field."""


@command(SERVICE, "index")
class IndexDocument(Message, frozen=True, kw_only=True):
    """Make a document findable, in place of the one by its id."""

    content: Content
    title: str | None = None
    metadata: dict[str, Any] = {}


@command(SERVICE, "delete")
class DeleteDocument(Message, frozen=True, kw_only=True):
    """Make a document unfindable."""


@event(SERVICE, "document_indexed")
class DocumentIndexed(Message, frozen=True, kw_only=True):
    """A document became findable, or has another content."""

    content: str
    title: str | None = None
    metadata: dict[str, Any] = {}


@event(SERVICE, "document_deleted")
class DocumentDeleted(Message, frozen=True, kw_only=True):
    """A document is not findable any more."""


class DocumentState(msgspec.Struct, frozen=True, kw_only=True):
    """A document as it was last indexed; once deleted, without its content."""

    id: str
    title: str | None = None
    content: str = ""
    metadata: dict[str, Any] = {}
    indexed: Time
    deleted: bool = False


class SearchDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A document to be indexed. A word in the title counts more than one in the content.

    `metadata` holds what results are filtered by and whatever else should come back with them.
    """

    id: str
    content: Content
    title: str | None = None
    metadata: dict[str, Any] = {}


class SearchQuery(Question, frozen=True, kw_only=True, omit_defaults=True):
    """What to look for; without `query`, the documents that pass `filters` are listed by id.

    `hybrid` looks for meaning as well as for words; `alpha` is the weight of meaning, 0 to 1.
    `threshold` cuts on `SearchHit.relevance`. `filters` maps a metadata field (dots lead into
    objects) to a value, or to operators: `{"year": {"gte": 2020}, "lang": {"in": ["en", "de"]}}`
    with eq, ne, gt, gte, lt, lte, in, contains and exists; all of them must hold. Words in double
    quotes must occur as a phrase. `fragments` is how many highlighted pieces come with a hit.
    """

    query: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 10
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0
    threshold: Share = 0.0
    hybrid: bool = True
    alpha: Share = 0.4
    filters: dict[str, Any] = msgspec.field(default_factory=dict)
    fragments: Annotated[int, msgspec.Meta(ge=0, le=20)] = 1


class Highlight(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of the content that fits the query.

    `start` is where `text` begins in the content, each of `ranges` the start and end of a matching
    word in `text`, all in characters; `marked` is `text` with `<mark>` around each.
    """

    text: str
    start: int
    ranges: tuple[tuple[int, int], ...]
    marked: str


class SearchHit(msgspec.Struct, frozen=True, kw_only=True):
    """A document that was found.

    `relevance` is absolute, 0 to 1: the larger of `keyword`, how well its words fit, and
    `similarity`, how near its meaning is. `score` only orders the hits of one answer.
    """

    id: str
    title: str | None
    content: str
    metadata: dict[str, Any]
    relevance: float
    score: float
    keyword: float
    similarity: float
    highlights: tuple[Highlight, ...]


class SearchHits(msgspec.Struct, frozen=True, kw_only=True):
    """One page of hits, best first; `total` counts all that reach the threshold."""

    hits: tuple[SearchHit, ...]
    total: int
