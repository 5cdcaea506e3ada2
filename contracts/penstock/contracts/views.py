"""What an operator asks of a service's view, and what each instance answers. Never any I/O."""

from __future__ import annotations

import msgspec


class Rebuild(msgspec.Struct, frozen=True):
    """Fold the view anew from the start of the log; the present one answers until that is done."""


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """The new view answers: `events` were folded in `seconds`, up to the stream `sequence`.

    `held` more are held back with their aggregates, because they or one before cannot be folded.
    """

    sequence: int
    events: int
    held: int
    seconds: float


class Verify(msgspec.Struct, frozen=True):
    """Fold the log from the start beside the view, and compare the two."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A row that is not as it should be: its columns that differ, in the view and folded anew.

    None where there is no such row.
    """

    table: str
    key: str
    live: str | None
    folded: str | None


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What a comparison at the stream `sequence` found: nothing, if `count` is 0.

    `events` were folded and `held` more held back; `differences` are the first ones.
    """

    sequence: int
    events: int
    held: int
    aggregates: int
    count: int
    differences: tuple[Difference, ...]
    seconds: float
