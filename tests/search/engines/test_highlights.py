from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.search.engines.documents import Fragment, Highlighting
from penstock.search.engines.highlights import highlight
from penstock.search.engines.words import Tokenizer, terms

TOKENIZER = Tokenizer()
FILLER = "Nothing of note is said in this sentence. " * 20

WORDY = st.lists(
    st.sampled_from(
        ["harbours", "Harbour's", "ship", "é", "😀", "bread", "\n\n", "漢字", "x" * 50]
    ),
    max_size=120,
).map(" ".join)


def shown(content: str, query: str, otherwise: int = 0, **options: object) -> tuple[Fragment, ...]:
    highlighting = Highlighting(**options)  # type: ignore[arg-type]
    asked = terms(query, TOKENIZER)
    return highlight(content, asked, TOKENIZER, highlighting, otherwise=otherwise)


@pytest.mark.parametrize(
    ("content", "query", "marked"),
    [
        ("Of countries.", "country", "Of <mark>countries</mark>."),
        ("A country's flag", "countries", "A <mark>country</mark>'s flag"),
        ("Das Café ist zu", "cafe", "Das <mark>Café</mark> ist zu"),
        ("the bread the", "what is the bread", "the <mark>bread</mark> the"),
        ("quick, brown, quick", '"quick brown"', "<mark>quick, brown</mark>, quick"),
        ("quick brown", '"quick brown" quick', "<mark>quick brown</mark>"),
        ("no such word", "zebra", "no such word"),
    ],
)
def test_matching_words_are_marked_as_the_index_finds_them(
    content: str, query: str, marked: str
) -> None:
    assert [fragment.marked for fragment in shown(content, query)] == [marked]


def test_marks_are_a_setting_and_html_is_escaped_only_when_asked() -> None:
    content = "<b>Ships</b> & boats"
    (plain,) = shown(content, "ships", before="[", after="]")
    assert plain.marked == "<b>[Ships]</b> & boats"
    (escaped,) = shown(content, "ships", escape_html=True)
    assert escaped.marked == "&lt;b&gt;<mark>Ships</mark>&lt;/b&gt; &amp; boats"
    assert escaped.text == content


def test_the_fragment_with_the_most_of_the_query_comes_first() -> None:
    content = f"Ships, ships, ships. {FILLER} Ships in the harbour. {FILLER} A harbour."
    fragments = shown(content, "ships harbour", fragments=2, size=60)
    assert [fragment.marked.count("<mark>") for fragment in fragments] == [2, 3]
    assert "<mark>Ships</mark> in the <mark>harbour</mark>" in fragments[0].marked
    assert len(shown(content, "ships harbour", fragments=9, size=60)) == 3


def test_matches_close_together_are_shown_in_fragments_that_do_not_overlap() -> None:
    content = f"Ship one. {'word ' * 14}Ship two."
    first, second = shown(content, "ship", size=60)
    assert first.start + len(first.text) <= second.start
    assert "Ship one." in first.text
    assert second.text.endswith("Ship two.")
    assert second.text.startswith("word")


def test_without_a_match_the_passage_asked_for_is_shown_to_the_end_of_a_word() -> None:
    content = FILLER + " The nearest passage begins here."
    (fragment,) = shown(content, "zebra", otherwise=len(FILLER), size=24)
    assert (fragment.text, fragment.ranges) == ("The nearest passage", ())


def test_a_match_longer_than_a_fragment_is_shown_whole() -> None:
    (fragment,) = shown(f"so {'x' * 500} it is", "x" * 500, size=10)
    assert fragment.text == "x" * 500


def test_empty_content_has_no_fragments() -> None:
    assert shown("", "zebra") == shown(" \n ", "zebra") == ()


@given(
    st.text() | WORDY,
    st.text() | st.sampled_from(["harbour ship", '"harbour ship"', "漢字", "é"]),
    st.integers(1, 5),
    st.integers(1, 200),
    st.integers(0, 1000),
)
def test_offsets_lead_to_what_is_shown(
    content: str, query: str, count: int, size: int, otherwise: int
) -> None:
    otherwise = min(otherwise, len(content))
    fragments = shown(
        content, query, otherwise, fragments=count, size=size, before="\0", after="\1"
    )
    assert len(fragments) <= count
    stems = {stem for term in terms(query, TOKENIZER) for stem in term.stems}
    taken: set[int] = set()
    for fragment in fragments:
        span = range(fragment.start, fragment.start + len(fragment.text))
        assert content[span.start : span.stop] == fragment.text != ""
        assert taken.isdisjoint(span)
        taken.update(span)
        matched = [fragment.text[start:end] for start, end in fragment.ranges]
        assert len(fragment.text) <= max([size, *map(len, matched)])
        for match in matched:
            words = TOKENIZER.words(match)
            assert words
            assert {word.stem for word in words} <= stems
        if "\0" not in fragment.text and "\1" not in fragment.text:
            assert fragment.marked.replace("\0", "").replace("\1", "") == fragment.text
