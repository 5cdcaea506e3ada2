"""How a command and a query are answered, over NATS and over HTTP alike. Never any I/O."""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.contracts.envelope import Time
from penstock.contracts.errors import Problem


def null() -> msgspec.Raw:
    """JSON's null, as yet undecoded."""
    return msgspec.Raw(b"null")


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a command: the aggregate's new state, or why it was refused.

    `sequence` is the stream sequence that the state reflects: pass it on as `min_seq`.
    """

    id: str
    sequence: int = 0
    data: msgspec.Raw = msgspec.field(default_factory=null)
    problem: Problem | None = None


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """A command is stored and will be handled, now or when its service is back."""

    id: str
    subject: str


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a view says. `sequence` is the last event that the view has folded.

    `revision` is the sequence of the last event of the one aggregate asked for, else 0. In lists,
    `archived_to` says where the view's knowledge begins: what ended up to then may be in the
    archive, where its history is told, and is listed no more.
    `held`: the aggregate's event at that sequence cannot be folded, so that the view tells the
    last good state before it; 0 if all is well.
    """

    sequence: int = 0
    revision: int = 0
    held: int = 0
    archived_to: Time | None = None
    data: msgspec.Raw = msgspec.field(default_factory=null)
    problem: Problem | None = None


class Question(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every query may ask beside its own parameters.

    `min_seq`: answer only once the view has folded this sequence (read your own writes).
    `newest`: answer only once it has folded all that the log holds when the question comes; for
    those who act on everything that is found.
    `wait`: seconds to wait for these, or for news after `after`; at most 30.
    """

    min_seq: int = 0
    newest: bool = False
    wait: float = 5.0


class ById(Question, frozen=True, kw_only=True, omit_defaults=True):
    """One aggregate. With `after`, the answer waits for a revision beyond it (a long poll).

    If none comes within `wait`, the present state is answered. With `at`, a stream sequence or an
    RFC 3339 time, the state is told as it was then.
    """

    id: str
    after: int | None = None
    at: str | None = None


class HistoryOf(Question, frozen=True, kw_only=True, omit_defaults=True):
    """Every event of one aggregate.

    With `archive`, an id that the log does not know any more is looked for in the whole archive,
    which takes long.
    """

    id: str
    archive: bool = False


class FlowOf(Question, frozen=True, kw_only=True, omit_defaults=True):
    """Every event of one flow in one service, by the flow's correlation id."""

    id: str


class HistoryEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event as an explanation: what, to which aggregate, who, why, when."""

    sequence: int
    service: str
    subject: str
    version: int
    id: str
    type: str
    time: Time
    data: Any
    correlationid: str
    causationid: str | None = None
    causationtype: str | None = None
    causationtime: Time | None = None
    causationcause: str | None = None
    actor: str | None = None
    traceparent: str | None = None
