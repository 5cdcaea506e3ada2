"""CSV, read back with the standard library's reader, and what a spreadsheet must not run."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.exports import Document, Segment
from penstock.exports.formats import FORMATS

RUN_BY_SPREADSHEETS = tuple("=+-@\t\r\n＝＋－＠")
texts = st.text(st.characters(exclude_categories=["Cs"])) | st.text(
    st.sampled_from([*RUN_BY_SPREADSHEETS, *"\",;' 15.e"])
)


def rendered(*segments: Segment, format: str = "csv") -> bytes:
    return b"".join(FORMATS[format].render(Document(title="t", segments=segments)))


def rows(*segments: Segment) -> list[list[str]]:
    header, *rows = csv.reader(io.StringIO(rendered(*segments).decode(), newline=""))
    assert header == ["start", "end", "speaker", "text"]
    return rows


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii() and text.strip("+-0123456789.eE") == ""


@given(st.lists(st.tuples(texts, st.none() | texts, st.none() | st.floats(0, 1e9)), min_size=1))
def test_csv_reads_back_every_cell(found: list[tuple[str, str | None, float | None]]) -> None:
    segments = [Segment(text=text, speaker=who, start=at, end=at) for text, who, at in found]
    read = rows(Segment(text="x"), *segments)[1:]
    assert len(read) == len(found)
    for (start, end, *cells), (text, who, at) in zip(read, found, strict=True):
        assert start == end
        assert (float(start) if start else None) == at
        for cell, value in zip(cells, (who or "", text), strict=True):
            assert cell in (value, f"'{value}")
            assert not cell.startswith(RUN_BY_SPREADSHEETS) or is_number(cell)
            assert (
                cell == value
                or value.strip().startswith(RUN_BY_SPREADSHEETS)
                or value[0] in "\t\r\n"
            )


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+A1", "-A1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＋1", "－1", "＠A", " =1"],
)
def test_a_formula_is_made_text(text: str) -> None:
    assert rows(Segment(text=text, speaker=text))[0][2:] == [f"'{text}"] * 2


@pytest.mark.parametrize(
    "text", ["-5", "+3.25", "-.5", "-1.", "-1e5", "+1.5E-10", "42", "a=b", "5 - 3"]
)
def test_a_number_or_plain_text_stays_as_it_is(text: str) -> None:
    assert rows(Segment(text=text))[0][3] == text


def test_rows_end_in_crlf_and_cells_are_quoted_where_they_must_be() -> None:
    assert rendered(
        Segment(text='say "hi", all', start=0, end=1.5, speaker="Anna"), Segment(text="a\nb\r\nc")
    ) == (
        b"start,end,speaker,text\r\n"
        b'0,1.5,Anna,"say ""hi"", all"\r\n'
        b',,,"a\nb\r\nc"\r\n'
    )  # fmt: skip


def test_the_form_for_excel_begins_with_a_byte_order_mark() -> None:
    greeting = Segment(text="Grüße")
    assert rendered(greeting, format="csv-excel") == b"\xef\xbb\xbf" + rendered(greeting)
