from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from penstock.search.engines.passages import passages


@given(st.text(alphabet="ab .\n。", max_size=400), st.integers(2, 50))
def test_passages_are_the_content_in_pieces_of_at_most_the_length(
    content: str, length: int
) -> None:
    spans = passages(content, length)
    assert "".join(content[start:end] for start, end in spans) == content
    assert spans[0][0] == 0
    assert all(0 < end - start <= length for start, end in spans) or not content


def test_a_passage_ends_with_a_sentence_or_else_between_words() -> None:
    def cut(content: str, length: int) -> list[str]:
        return [content[start:end] for start, end in passages(content, length)]

    assert cut("One is. Two are. Three!", 18) == ["One is. ", "Two are. Three!"]
    assert cut("one two three four", 10) == ["one two ", "three four"]
    assert cut("a" * 25, 10) == ["a" * 9, "a" * 8, "a" * 8]


def test_passages_are_of_like_length() -> None:
    lengths = [end - start for start, end in passages("word " * 250, 1200)]
    assert len(lengths) == 2
    assert max(lengths) - min(lengths) <= 5
