"""CSV by RFC 4180: a row for each segment. Never a cell that a spreadsheet would run as a formula.

The columns are start and end in seconds, speaker and text; what is not known is left empty.
`csv-excel` is the same behind a byte order mark, without which Excel does not read UTF-8.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from functools import partial

from penstock.contracts.exports import Document, Segment
from penstock.exports.formats.format import Format

COLUMNS = ("start", "end", "speaker", "text")
BYTE_ORDER_MARK = "\ufeff"

# https://owasp.org/www-community/attacks/CSV_Injection, and the same behind leading blanks, which
# some spreadsheets trim.
_FORMULA = re.compile(r"[\t\r\n]|\s*[=+\-@＝＋－＠]")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def _write(document: Document, *, preamble: str = "") -> Iterator[str]:
    line = csv.writer(_Line(), lineterminator="\r\n").writerow
    yield preamble + line(COLUMNS)
    for segment in document.segments:
        yield line(_row(segment))


class _Line:
    """A file that keeps nothing: `writerow` answers with what its `write` does."""

    def write(self, line: str) -> str:
        return line


def _row(segment: Segment) -> tuple[float | str | None, ...]:
    return segment.start, segment.end, _text(segment.speaker or ""), _text(segment.text)


def _text(value: str) -> str:
    """`value`, behind an apostrophe where a spreadsheet would run it; numbers stay numbers."""
    return f"'{value}" if _FORMULA.match(value) and not _NUMBER.fullmatch(value) else value


_format = partial(Format, media_type="text/csv; charset=utf-8; header=present", suffix=".csv")
CSV = _format(name="csv", write=_write)
CSV_FOR_EXCEL = _format(name="csv-excel", write=partial(_write, preamble=BYTE_ORDER_MARK))
