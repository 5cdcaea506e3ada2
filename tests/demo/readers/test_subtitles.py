"""SubRip and WebVTT as they are found, and the line of what is wrong in them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import srt
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.contracts.exports import Document, Segment
from penstock.demo.readers import Passage, UnreadableFile, read_passages
from penstock.exports.formats import FORMATS

VTT = """WEBVTT - a title
Kind: captions

STYLE
::cue { color: red }

REGION
id:fred
width:40%

NOTE a comment --> with an arrow
over two lines

intro
00:01.000 --> 00:04.500 align:start position:0%
<v.loud Anna Lee>Hello &amp; <b>welcome</b> <00:02.000>&lt;here&gt;
to   the show

NOTE
between cues

100:00:05.000 --> 100:00:08.250
5 &gt; 4&nbsp;&#33;

00:09.000 --> 00:10.000
<i></i>
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "talk.srt"


def passages(path: Path, text: str, *, suffix: str = ".srt") -> list[Passage]:
    path = path.with_suffix(suffix)
    path.write_bytes(text.encode())
    return read_passages(path)


def refusal(path: Path, text: str, *, suffix: str = ".srt") -> str:
    with pytest.raises(UnreadableFile) as refused:
        passages(path, text, suffix=suffix)
    message = str(refused.value)
    assert message.startswith(str(path.with_suffix(suffix)))
    return message


def test_a_vtt_file_gives_its_cues_without_anything_else(file: Path) -> None:
    assert passages(file, VTT, suffix=".vtt") == [
        Passage(
            text="Hello & welcome <here> to the show",
            start=1.0,
            end=4.5,
            line=15,
            speaker="Anna Lee",
        ),
        Passage(text="5 > 4 !", start=360_005.0, end=360_008.25, line=22),
    ]


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_breaks_and_a_byte_order_mark_change_nothing(
    file: Path, line_break: str, mark: str
) -> None:
    text = mark + VTT.replace("\n", line_break)
    assert passages(file, text, suffix=".vtt") == passages(file, VTT, suffix=".vtt")


def test_an_srt_file_gives_its_cues_without_tags(file: Path) -> None:
    text = (
        "\ufeff1\r\n00:00:01,500 --> 00:00:02,000 X1:1 X2:2\r\n{\\an8}<i>Hello</i>\r\n"
        '<font color="#fff">there</font>\r\n\r\n\r\n'
        "0:59:59.9 --> 100:00:00,05\r\n1 < 2 &amp; 3 > 2\r\n"
    )
    assert passages(file, text) == [
        Passage(text="Hello there", start=1.5, end=2.0, line=2),
        Passage(text="1 < 2 &amp; 3 > 2", start=3599.9, end=360_000.05, line=7),
    ]


def test_a_cue_whose_text_is_a_number_is_not_taken_for_its_name(file: Path) -> None:
    text = "00:00:01,000 --> 00:00:02,000\n1984\n\n7\n00:00:02,000 --> 00:00:03,000\n42\n"
    assert [(p.text, p.line) for p in passages(file, text)] == [("1984", 1), ("42", 5)]


GOOD = "1\n00:00:01,000 --> 00:00:02,000\nHello\n\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (GOOD + "2\n00:00:03,000 -> 00:00:04,000\nWorld", 6),
        (GOOD + "2\n00:00:03,000 --> 00:00:61,000\nWorld", 6),
        (GOOD + "2\n00:03 --> 00:04\nWorld", 6),
        (GOOD + "2\n00:00:03,000 -->\nWorld", 6),
        (GOOD + "two lines\nbefore the times\n00:00:03,000 --> 00:00:04,000", 7),
        (GOOD + "just text", 5),
        (GOOD + "2", 5),
        (GOOD + "2\n00:00:05,000 --> 00:00:04,000\nWorld", 6),
        (GOOD.rstrip() + "\n2\n00:00:03,000 --> 00:00:04,000\nWorld", 5),
    ],
)
def test_a_malformed_cue_is_refused_with_its_line(file: Path, text: str, line: int) -> None:
    assert f", line {line}: " in refusal(file, text)


def test_a_vtt_file_begins_with_its_name(file: Path) -> None:
    assert "line 1: a WebVTT file begins with WEBVTT" in refusal(file, GOOD, suffix=".vtt")
    assert "begins with WEBVTT" in refusal(file, VTT.replace("WEBVTT", "WEBVTTX"), suffix=".vtt")


def test_vtt_does_not_take_the_comma_of_srt(file: Path) -> None:
    assert ", line 4: " in refusal(file, "WEBVTT\n\n" + GOOD, suffix=".vtt")


@pytest.mark.parametrize("suffix", [".srt", ".vtt"])
def test_a_file_without_text_in_any_cue_is_refused(file: Path, suffix: str) -> None:
    text = {".srt": "1\n00:00:01,000 --> 00:00:02,000\n", ".vtt": "WEBVTT\n\nNOTE nothing\n"}
    assert "has no cue with text" in refusal(file, text[suffix], suffix=suffix)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("mark", ["<a", "{\\an", "<v x"])
def test_a_tag_that_is_never_closed_takes_no_more_than_its_time(file: Path, mark: str) -> None:
    text = f"WEBVTT\n\n00:01.000 --> 00:02.000\n{mark * 50_000}\n"
    assert passages(file, text, suffix=".vtt")[0].text == mark * 50_000


cues = st.lists(
    st.tuples(st.integers(0, 10**9), st.integers(1, 10**6), st.from_regex(r"\A\w+( \w+)*\Z")),
    min_size=1,
    max_size=20,
)


@settings(deadline=None)  # files take the time they take
@given(cues)
def test_what_another_writer_wrote_is_read_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, found: list[tuple[int, int, str]]
) -> None:
    written = srt.compose(
        srt.Subtitle(i, timedelta(milliseconds=at), timedelta(milliseconds=at + length), text)
        for i, (at, length, text) in enumerate(found)
    )
    read = passages(tmp_path_factory.mktemp("srt") / "talk", written)
    assert sorted((p.start or 0, p.end or 0, p.text) for p in read) == sorted(
        (at / 1000, (at + length) / 1000, text) for at, length, text in found
    )


@settings(deadline=None)  # files take the time they take
@given(cues)
def test_an_export_is_read_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, found: list[tuple[int, int, str]]
) -> None:
    segments = tuple(
        Segment(text=text, start=at / 1000, end=(at + length) / 1000)
        for at, length, text in sorted(found)
    )
    file = b"".join(FORMATS["srt"].render(Document(title="t", segments=segments)))
    read = passages(tmp_path_factory.mktemp("srt") / "talk", file.decode())
    assert sorted((p.start or 0, p.end or 0, p.text) for p in read) == sorted(
        (s.start or 0, s.end or 0, s.text) for s in segments
    )
