"""Exports: the document that is rendered. Never any rendering."""

from __future__ import annotations

from typing import Any

import msgspec


class Segment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One passage of a document. `start` and `end` are seconds from the beginning of the media."""

    text: str
    start: float | None = None
    end: float | None = None
    speaker: str | None = None


class Document(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an export renders: a title and segments in reading order.

    `metadata` is the application's own; only formats with a place for it keep it (json).
    """

    title: str
    segments: tuple[Segment, ...]
    metadata: dict[str, Any] = {}
