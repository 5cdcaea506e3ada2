"""A dead letter: a message that could not be handled, why, and what is needed to try it again.

Never any I/O.
"""

from __future__ import annotations

import base64
import zlib
from typing import Annotated, Literal

import msgspec

from penstock.contracts.envelope import Time
from penstock.contracts.errors import Problem

# `event`: it could not be folded into a view, whose aggregate is held since.
# `work`: what it calls for beyond the view could not be done.
Kind = Literal["command", "event", "change", "work", "timer", "unknown"]
CUT = 64 * 1024  # bytes kept of a body that does not fit into a letter


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where the message was, what it said, why it failed; every field has a default but five.

    `sequence` is the message's own in its stream, `id` its aggregate; `message` and `type` are
    those of the command or event, where it can be read. `consumer` is who could not handle it,
    for the `deliveries`-th time. The body is in `body` as text, or in `body_base64` if it is not
    UTF-8, or in `body_zlib` (compressed, then base85) if it is large. `cut` bytes did not fit at
    all. There is none where the reason forbids to keep it.
    """

    service: str
    subject: str
    reason: Problem
    time: Time
    kind: Kind = "unknown"
    sequence: int = 0
    id: str = ""
    message: str = ""
    type: str = ""
    consumer: str = ""
    deliveries: int = 1
    headers: dict[str, str] = {}
    body: str | None = None
    body_base64: str | None = None
    body_zlib: str | None = None
    cut: int = 0
    trace: str | None = None


class Letters(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which dead letters: those that are all of what is given; with nothing given, every one.

    `reason` is the type of the error, as `not-found` or in full; `aggregate` an id.
    """

    service: str = ""
    kind: Kind | Literal[""] = ""
    reason: str = ""
    aggregate: str = ""

    def match(self, letter: DeadLetter) -> bool:
        """Whether `letter` is one of them."""
        return (
            self.service in ("", letter.service)
            and self.kind in ("", letter.kind)
            and self.aggregate in ("", letter.id)
            and self.reason in ("", letter.reason.type, letter.reason.type.rpartition(":")[2])
        )


class ListLetters(Letters, frozen=True, kw_only=True, omit_defaults=True):
    """Newest first; `before` is the number of the last one of the page before."""

    before: int = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 50


class LetterNumber(msgspec.Struct, frozen=True, kw_only=True):
    """One dead letter, by its number."""

    number: int


class Found(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A dead letter and its `number`, by which it is shown, redriven and discarded."""

    number: int
    letter: DeadLetter


class Listed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A dead letter in a list: all but what the message said. See `DeadLetter`."""

    number: int
    time: Time
    service: str
    kind: Kind
    subject: str
    reason: Problem
    sequence: int = 0
    id: str = ""
    message: str = ""
    type: str = ""
    consumer: str = ""
    deliveries: int = 1


class Settled(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a letter that was to be redriven or discarded: it is gone, or `left` says
    why it is still there.
    """

    number: int
    left: str | None = None


def listed(found: Found) -> Listed:
    """A letter as it stands in a list."""
    letter = found.letter
    kept = {name: getattr(letter, name) for name in Listed.__struct_fields__ if name != "number"}
    return Listed(number=found.number, **kept)


def body_of(letter: DeadLetter) -> bytes | None:
    """The message's body as it was, or None where it was not kept, or not whole."""
    if letter.cut:
        return None
    if letter.body is not None:
        return letter.body.encode()
    if letter.body_base64 is not None:
        return base64.b64decode(letter.body_base64)
    if letter.body_zlib is not None:
        return zlib.decompress(base64.b85decode(letter.body_zlib))
    return None
