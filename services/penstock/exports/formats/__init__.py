"""The formats a document can be exported to, by name. Never where the files go."""

from __future__ import annotations

from penstock.contracts.errors import InvalidMessage
from penstock.exports.formats import csv, json, srt, txt
from penstock.exports.formats.format import Format

__all__ = ["FORMATS", "Format", "format_named"]

FORMATS: dict[str, Format] = {
    known.name: known for known in (txt.TXT, json.JSON, srt.SRT, csv.CSV, csv.CSV_FOR_EXCEL)
}


def format_named(name: str) -> Format:
    """The format called `name`. Raises InvalidMessage, with the names there are, if none is."""
    try:
        return FORMATS[name]
    except KeyError:
        names = ", ".join(FORMATS)
        raise InvalidMessage(
            f"There is no export format {name!r}; choose one of {names}.", formats=list(FORMATS)
        ) from None
