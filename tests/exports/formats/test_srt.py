"""SubRip, read back with two independent readers: `srt` and `pysubs2`."""

from __future__ import annotations

import re
from datetime import timedelta

import pysubs2
import pytest
import srt
from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.exports import Document, Segment
from penstock.exports.formats import FORMATS

texts = st.text(st.characters(exclude_categories=["Cc", "Cs"])) | st.lists(
    st.sampled_from(["a", "\n", "\r\n", "\r", " ", "-->", "--", ">", "1", "00:00:01,000", "\u2028"])
).map("".join)
milliseconds = st.integers(0, 99 * 3_600_000)


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    start = draw(milliseconds)
    end = start + draw(milliseconds)
    return Segment(text="x" + draw(texts), start=start / 1000, end=end / 1000)


documents = st.lists(segments(), min_size=1).map(
    lambda found: Document(title="t", segments=tuple(found))
)


def rendered(*segments: Segment) -> str:
    return b"".join(FORMATS["srt"].render(Document(title="t", segments=segments))).decode()


def cues(*segments: Segment) -> list[srt.Subtitle]:
    return list(srt.parse(rendered(*segments)))


def words(text: str) -> list[str]:
    return re.sub("-{2,}>", "->", text).split()


@given(documents)
def test_srt_reads_back_with_every_cue_in_order(document: Document) -> None:
    read = cues(*document.segments)
    expected = sorted(document.segments, key=lambda segment: segment.start or 0)
    assert [cue.index for cue in read] == list(range(1, len(expected) + 1))
    assert [(cue.start.total_seconds(), cue.end.total_seconds()) for cue in read] == [
        (segment.start, segment.end) for segment in expected
    ]
    assert [cue.content.split() for cue in read] == [words(segment.text) for segment in expected]


@given(st.lists(st.tuples(milliseconds, st.from_regex(r"\A[a-z][a-z ]{0,9}(\n[a-z1]+)?\Z"))))
def test_another_reader_finds_the_same_times_and_words(found: list[tuple[int, str]]) -> None:
    segments = [Segment(text=text, start=at / 1000, end=at / 1000 + 2) for at, text in found]
    read = pysubs2.SSAFile.from_string(
        rendered(Segment(text="x", start=0, end=1), *segments), format_="srt"
    )
    assert sorted((cue.start, cue.end, cue.plaintext.split()) for cue in read[1:]) == sorted(
        (at, at + 2000, text.split()) for at, text in found
    )


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "00:00:00,000"),
        (0.0004, "00:00:00,000"),
        (59.9996, "00:01:00,000"),
        (3599.9999, "01:00:00,000"),
        (1.9999, "00:00:02,000"),
        (360_000, "100:00:00,000"),
        (3_600_000.25, "1000:00:00,250"),
    ],
)
def test_a_time_is_rounded_once_and_carried(seconds: float, shown: str) -> None:
    assert f"\n{shown} --> {shown}\n" in rendered(Segment(text="a", start=seconds, end=seconds))


def test_hours_beyond_99_read_back() -> None:
    (cue,) = cues(Segment(text="a", start=111 * 3600, end=1111 * 3600 + 1))
    assert (cue.start, cue.end) == (timedelta(hours=111), timedelta(hours=1111, seconds=1))


def test_cues_are_ordered_by_start_and_numbered_from_one() -> None:
    read = cues(
        Segment(text="last", start=5, end=6),
        Segment(text="first", start=1, end=10),
        Segment(text="second", start=1, end=9),
    )
    assert [(cue.index, cue.content) for cue in read] == [(1, "first"), (2, "second"), (3, "last")]


def test_a_blank_line_in_the_text_does_not_end_the_cue() -> None:
    text = "one\n\n2\n00:00:01,000 --> 00:00:02,000\n \r\n\r\ntwo\u2028\u2028three"
    (cue,) = cues(Segment(text=text, start=0, end=1))
    assert cue.content == "one 2\n00:00:01,000 -> 00:00:02,000\ntwo\nthree"


@pytest.mark.parametrize("arrow", ["-->", "--->", "-------->"])
def test_an_arrow_in_the_text_is_not_an_arrow_in_the_file(arrow: str) -> None:
    assert rendered(Segment(text=f"a {arrow} b", start=0, end=1)).count("-->") == 1


def test_the_speaker_stands_before_the_text() -> None:
    (cue,) = cues(Segment(text="\nHello\nthere", start=0, end=1, speaker="Anna\n-->"))
    assert cue.content == "Anna ->: Hello\nthere"


def test_a_segment_without_text_gets_no_cue() -> None:
    read = cues(Segment(text=" \n", start=0, end=1), Segment(text="a", start=1, end=2))
    assert [(cue.index, cue.content) for cue in read] == [(1, "a")]
