"""A dead letter: a message that could not be handled, why, and what is needed to try it again.

Never any I/O.
"""

from __future__ import annotations

import base64
import zlib
from datetime import datetime
from typing import Literal

import msgspec

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
    time: datetime
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


class Found(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A dead letter and its `number`, by which it is shown, redriven and discarded."""

    number: int
    letter: DeadLetter


class Redriven(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a letter that was to be redriven; `left` is why it is still there."""

    number: int
    left: str | None = None


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
