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
