"""Plain text: the title, then one line for each segment. Never wraps a line."""

from __future__ import annotations

from collections.abc import Iterator

from penstock.contracts.exports import Document
from penstock.exports.formats.format import Format
from penstock.exports.formats.wording import one_line, spoken


def _write(document: Document) -> Iterator[str]:
    if title := one_line(document.title):
        yield f"{title}\n\n"
    for segment in document.segments:
        if segment.text.strip():
            yield f"{one_line(spoken(segment))}\n"


TXT = Format(name="txt", media_type="text/plain; charset=utf-8", suffix=".txt", write=_write)
