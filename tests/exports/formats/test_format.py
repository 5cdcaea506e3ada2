"""What holds for every format: what is refused, and how it streams."""

from __future__ import annotations

import tracemalloc

import pytest

from penstock.contracts.errors import InvalidMessage
from penstock.contracts.exports import Document, Segment
from penstock.exports.formats import FORMATS, Format, format_named
from penstock.exports.formats.format import CHUNK

every_format = pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)


def document(*segments: Segment) -> Document:
    return Document(title="Minutes", segments=segments)


def test_each_format_is_found_by_its_name() -> None:
    assert {name: format_named(name).name for name in FORMATS} == {name: name for name in FORMATS}


def test_an_unknown_format_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidMessage, match="choose one of txt, json, srt, csv") as refused:
        format_named("docx")
    assert refused.value.fields == {"formats": list(FORMATS)}


@every_format
@pytest.mark.parametrize("segments", [(), (Segment(text=" \n", start=0, end=1),)])
def test_a_document_without_text_is_refused(format: Format, segments: tuple[Segment, ...]) -> None:
    with pytest.raises(InvalidMessage, match="would be empty") as refused:
        format.check(document(*segments))
    assert refused.value.fields == {"path": "$.segments"}


@every_format
def test_a_segment_that_ends_before_it_starts_is_refused(format: Format) -> None:
    wrong = document(Segment(text="a", start=0, end=1), Segment(text="b", start=2, end=1.5))
    with pytest.raises(InvalidMessage, match="before it starts") as refused:
        format.check(wrong)
    assert refused.value.fields == {"path": "$.segments[1].end"}


@every_format
@pytest.mark.parametrize("seconds", [-0.001, float("inf"), float("nan")])
def test_a_time_that_no_clock_shows_is_refused(format: Format, seconds: float) -> None:
    with pytest.raises(InvalidMessage, match="give seconds from 0") as refused:
        format.check(document(Segment(text="a", start=seconds, end=1)))
    assert refused.value.fields == {"path": "$.segments[0].start"}


@every_format
def test_times_are_asked_for_only_where_the_format_needs_them(format: Format) -> None:
    untimed = document(
        Segment(text="a", start=0, end=1), Segment(text="b", start=1), Segment(text="c")
    )
    if not format.timed:
        format.check(untimed)
        return
    with pytest.raises(InvalidMessage, match="or choose a format without times") as refused:
        format.check(untimed)
    assert refused.value.fields == {"path": "$.segments[1].end"}


def test_only_srt_needs_times() -> None:
    assert [format.name for format in FORMATS.values() if format.timed] == ["srt"]


@every_format
def test_rendering_refuses_before_the_first_chunk_is_asked_for(format: Format) -> None:
    with pytest.raises(InvalidMessage):
        format.render(document())


@every_format
def test_a_large_document_is_rendered_in_chunks_with_flat_memory(format: Format) -> None:
    line = "the quick brown fox jumps over the lazy dog " * 2
    large = document(
        *(Segment(text=f"{i} {line}", start=i, end=i + 1, speaker="Anna") for i in range(20_000))
    )
    chunks = format.render(large)
    tracemalloc.start()
    try:
        sizes = [len(chunk) for chunk in chunks]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(sizes) > 20_000 * len(line)
    assert all(CHUNK <= size < CHUNK + 1024 for size in sizes[:-1])
    assert peak < 20 * CHUNK  # of a file of 40 chunks or more


@every_format
def test_rendering_twice_gives_the_same_bytes(format: Format) -> None:
    one = document(Segment(text="a", start=0, end=1), Segment(text="b", start=0, end=1))
    assert b"".join(format.render(one)) == b"".join(format.render(one))
