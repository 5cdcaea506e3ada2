"""What an operator asks of every instance of a service, and how each one reports. Never any I/O."""

from __future__ import annotations

import msgspec

from penstock.contracts.answers import null
from penstock.contracts.errors import Problem


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far one instance is with what it was asked.

    `done` of `total` units of work; the last report has `ended`, and `data` or a `problem`.
    """

    instance: str
    done: int = 0
    total: int = 0
    ended: bool = False
    data: msgspec.Raw = msgspec.field(default_factory=null)
    problem: Problem | None = None


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """`release`: fold what is held back of these aggregates, from the last good state on."""

    ids: list[str]


class StillHeld(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `release` lists those that stay held: at which event, and why."""

    id: str
    sequence: int
    reason: Problem


class Redo(msgspec.Struct, frozen=True, kw_only=True):
    """`redo-<consumer>`, asked of one instance: do the work of the event at `sequence`."""

    sequence: int
