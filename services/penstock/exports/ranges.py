"""Which bytes of a file a request wants, by RFC 9110 (sections 13 and 14). Never reads the file."""

from __future__ import annotations

import re

import msgspec

_RANGE = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*")


class Part(msgspec.Struct, frozen=True):
    """The bytes from `start` to before `stop`, of `size`. `partial`: they were asked for so."""

    start: int
    stop: int
    size: int
    partial: bool = False

    @property
    def content_range(self) -> str:
        """The value of Content-Range."""
        return f"bytes {self.start}-{self.stop - 1}/{self.size}"


def wanted(size: int, etag: str, *, range: str | None, if_range: str | None) -> Part | None:
    """The part of a file of `size` bytes to answer with; None if there is no such part (416).

    The whole where no range is given, where `if_range` is another version than `etag`, and for
    forms that a server may ignore: other units, several ranges, nonsense.
    """
    whole = Part(0, size, size)
    match = _RANGE.fullmatch(range or "")
    if match is None or (if_range is not None and if_range.strip() != etag):
        return whole
    first, last = match.groups()
    if not (first or last) or (first and last and int(last) < int(first)):
        return whole
    start = int(first) if first else max(size - int(last), 0)
    stop = min(int(last) + 1, size) if first and last else size
    return Part(start, stop, size, partial=True) if start < stop else None


def matches(etag: str, if_none_match: str | None) -> bool:
    """Whether the asker has this version already; compared weakly, as If-None-Match is."""
    if if_none_match is None:
        return False
    known = re.findall(r'"[^"]*"', if_none_match)
    return if_none_match.strip() == "*" or etag in known
