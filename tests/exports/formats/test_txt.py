"""Plain text, read back line by line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.exports import Document, Segment
from penstock.exports.formats import FORMATS

words = st.lists(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1), min_size=1)


def txt(document: Document) -> str:
    return b"".join(FORMATS["txt"].render(document)).decode()


def test_the_title_stands_above_one_line_for_each_segment() -> None:
    document = Document(
        title="Weekly\nmeeting",
        segments=(
            Segment(text="Hello, all.\r\nWelcome.", start=0, end=1, speaker="Anna"),
            Segment(text="  "),
            Segment(text="Thank you."),
        ),
    )
    assert txt(document) == "Weekly meeting\n\nAnna: Hello, all. Welcome.\nThank you.\n"


def test_without_a_title_the_text_comes_first() -> None:
    assert txt(Document(title=" ", segments=(Segment(text="a"),))) == "a\n"


@given(words, st.lists(words, min_size=1), st.sampled_from([" ", "\n", "\u2028", "\r\n\t", "\x85"]))
def test_every_word_is_on_the_line_of_its_segment(
    title: list[str], texts: list[list[str]], space: str
) -> None:
    segments = tuple(Segment(text=space.join(text)) for text in texts)
    heading, blank, *lines, end = txt(Document(title=space.join(title), segments=segments)).split(
        "\n"
    )
    assert heading.split(" ") == title
    assert [line.split(" ") for line in lines] == texts
    assert blank == end == ""
