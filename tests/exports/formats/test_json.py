"""JSON, read back with the standard library and to the same document with msgspec."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.exports import Document, Segment
from penstock.exports.formats import FORMATS

texts = st.text(st.characters(exclude_categories=["Cs"]))
seconds = st.none() | st.floats(0, 1e9)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=10,
)


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    start = draw(seconds)
    length = draw(seconds)
    end = length if start is None or length is None else start + length
    return Segment(text=draw(texts) + "x", start=start, end=end, speaker=draw(st.none() | texts))


documents = st.builds(
    Document,
    title=texts,
    segments=st.lists(segments(), min_size=1).map(tuple),
    metadata=st.dictionaries(texts, values),
)


def rendered(document: Document) -> bytes:
    return b"".join(FORMATS["json"].render(document))


@given(documents)
def test_json_reads_back_as_the_same_document(document: Document) -> None:
    assert msgspec.json.decode(rendered(document), type=Document) == document


@given(documents)
def test_streaming_gives_what_formatting_the_whole_would(document: Document) -> None:
    whole = msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
    assert rendered(document) == whole


def test_json_is_readable_as_it_stands() -> None:
    document = Document(
        title='The "segments": [] of Zoë',
        segments=(Segment(text="Grüße\n日本", start=0.5, end=1.0), Segment(text="b")),
        metadata={"segments": []},
    )
    text = rendered(document).decode()
    assert '\n    {\n      "text": "Grüße\\n日本",\n      "start": 0.5,' in text
    assert json.loads(text) == {
        "title": 'The "segments": [] of Zoë',
        "segments": [{"text": "Grüße\n日本", "start": 0.5, "end": 1.0}, {"text": "b"}],
        "metadata": {"segments": []},
    }
