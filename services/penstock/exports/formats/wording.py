"""How a segment reads where there are no columns. Never any escaping."""

from __future__ import annotations

from penstock.contracts.exports import Segment


def one_line(text: str) -> str:
    """`text` with every run of white space, line breaks included, as one space."""
    return " ".join(text.split())


def spoken(segment: Segment) -> str:
    """The text of `segment`, after the name of its speaker if it has one: `Anna: Hello`."""
    name = one_line(segment.speaker or "")
    return f"{name}: {segment.text.lstrip()}" if name else segment.text
