"""JSON: the whole document, indented, which `msgspec` decodes to the same `Document`."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from penstock.contracts.exports import Document
from penstock.exports.formats.format import Format

_encode = msgspec.json.Encoder().encode


def _write(document: Document) -> Iterator[str]:
    """What `msgspec.json.format` gives for the whole, without ever holding the whole."""
    # No JSON string holds a raw line break, so this mark is found in the frame alone.
    head, mark, tail = _indented(replace(document, segments=())).partition('\n  "segments": [')
    yield head + mark
    separator = "\n    "
    for segment in document.segments:
        yield separator + _indented(segment).replace("\n", "\n    ")
        separator = ",\n    "
    yield "\n  " + tail + "\n"


def _indented(value: msgspec.Struct) -> str:
    return msgspec.json.format(_encode(value), indent=2).decode()


JSON = Format(name="json", media_type="application/json", suffix=".json", write=_write)
