"""The cache: its command, event, tag state and entries, version 1. Never any I/O.

A tag is an aggregate, and its events are its invalidations. An entry carries the proof of its own
validity: it is valid while no event of any of its tags is newer than its `asof`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Annotated

import msgspec

from penstock.contracts.answers import Question
from penstock.contracts.envelope import Time, command, event
from penstock.contracts.errors import InvalidMessage
from penstock.contracts.subjects import Subjects, token

SERVICE = "cache"
MAX_ENTRY = 1_000_000  # bytes, a little below what a NATS server takes by default
MAX_KEY = 4096  # characters
MAX_TAGS = 64  # of one entry
Reason = Annotated[str, msgspec.Meta(max_length=1000)]


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What all messages here share. States, unlike messages, always show every field."""


@command(SERVICE, "invalidate")
class InvalidateTag(Message, frozen=True, kw_only=True):
    """Let go of every entry with this tag, however many there are.

    `cause` is the id of the message behind it. `change` is its sequence in the stream of changes
    when it is a change of the application's.
    """

    reason: Reason | None = None
    cause: str | None = None
    change: int = 0


@event(SERVICE, "invalidated")
class TagInvalidated(Message, frozen=True, kw_only=True):
    """No entry with this tag that was computed before this event is valid any more.

    `reflects` is the highest sequence in the stream of changes that this tag reflects now.
    """

    reason: str | None = None
    cause: str | None = None
    reflects: int = 0


class TagState(msgspec.Struct, frozen=True, kw_only=True):
    """A tag: how often it was invalidated, and by what the last time."""

    id: str
    count: int
    reason: str | None
    cause: str | None
    reflects: int
    invalidated: Time


class ListTags(Question, frozen=True, kw_only=True, omit_defaults=True):
    """Tags, the last invalidated first. `before` is the last one's `sequence`, to page on."""

    starting: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    before: int | None = None


class TagSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A tag in a list; `sequence` is its last invalidation's in the cache's event stream."""

    tag: str
    sequence: int
    count: int
    reason: str | None
    invalidated: Time


class CountTags(Question, frozen=True, kw_only=True, omit_defaults=True):
    """How many tags and invalidations there are."""


class TagCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Totals; `reflects` is the highest sequence of a change that was applied."""

    tags: int
    invalidations: int
    reflects: int


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A cache entry at rest, as MessagePack.

    `key` is the canonical key, compared on every read because the subject holds only its digest.
    `asof` is a sequence of the cache's event stream that was stored before the value was computed.
    `deadline` is in seconds since 1970 by the writer's clock: it refines the server's expiry,
    which counts whole seconds. `schema` is the fingerprint of the value's type, empty for none.
    """

    key: str
    asof: int
    value: msgspec.Raw
    tags: tuple[str, ...] = ()
    deadline: float | None = None
    schema: str = ""

    def is_valid(self, heads: Mapping[str, int]) -> bool:
        """Whether no tag was invalidated since; `heads` has the last sequence of each tag."""
        return all(heads[tag] <= self.asof for tag in self.tags)

    def is_expired(self, now: float) -> bool:
        """Whether its lifetime is over at `now`, seconds since 1970."""
        return self.deadline is not None and self.deadline <= now


def checked_key(key: str) -> str:
    """`key`, if it can be one. Raises InvalidMessage."""
    if not 0 < len(key) <= MAX_KEY:
        raise InvalidMessage(f"A cache key has 1 to {MAX_KEY} characters, this one has {len(key)}.")
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise InvalidMessage(f"The cache key {key!r} is not valid Unicode.") from error
    return key


def checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """`tags`, each once and in order. Raises InvalidMessage for what cannot be a tag."""
    if isinstance(tags, str):
        raise InvalidMessage(f"Tags are a list: write [{tags!r}].")
    found = tuple(sorted(set(tags)))
    if len(found) > MAX_TAGS:
        raise InvalidMessage(f"An entry has at most {MAX_TAGS} tags, this one has {len(found)}.")
    for tag in found:
        token(tag)
    return found


def entry_stream(subjects: Subjects) -> str:
    """The stream behind the bucket of entries (ADR-8)."""
    return f"KV_{subjects.stream(SERVICE)}"


def entry_subject(subjects: Subjects, key: str) -> str:
    """Where the entry of a key is kept: under the BLAKE2b digest of the key."""
    digest = hashlib.blake2b(key.encode(), digest_size=20).hexdigest()
    return f"$KV.{subjects.stream(SERVICE)}.{digest}"
