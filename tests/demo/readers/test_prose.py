"""Plain text in passages: by paragraph, long ones by sentence, each with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.demo.readers import Passage, UnreadableFile, read_passages
from penstock.demo.readers.prose import LONGEST


def passages(tmp_path: Path, text: str) -> list[Passage]:
    path = tmp_path / "notes.txt"
    path.write_bytes(text.encode())
    return read_passages(path)


def lengths(found: list[Passage]) -> list[int]:
    return [len(passage.text.split()) for passage in found]


def test_each_paragraph_is_a_passage_with_the_line_where_it_begins(tmp_path: Path) -> None:
    assert passages(tmp_path, "\nOne  line,\nthen another.\n \t\n\n  Second.\n") == [
        Passage(text="One line, then another.", line=2),
        Passage(text="Second.", line=6),
    ]


def test_a_long_paragraph_is_split_at_sentences_into_like_parts(tmp_path: Path) -> None:
    sentences = [f"Sentence {i} has exactly seven words here." for i in range(40)]
    found = passages(tmp_path, "\n".join(sentences))
    assert lengths(found) == [98, 98, 84]
    assert [passage.line for passage in found] == [1, 15, 29]
    assert all(passage.text.endswith("here.") for passage in found)


def test_a_paragraph_of_the_longest_length_stays_whole(tmp_path: Path) -> None:
    assert lengths(passages(tmp_path, "word. " * LONGEST)) == [LONGEST]
    assert lengths(passages(tmp_path, "word. " * (LONGEST + 2))) == [61, 61]


def test_a_sentence_longer_than_a_passage_is_cut(tmp_path: Path) -> None:
    assert lengths(passages(tmp_path, "word " * 500)) == [100] * 5


def test_a_sentence_ends_behind_its_quotation_marks(tmp_path: Path) -> None:
    said = "He said “no.” " + "w " * 61 + "so (it was!) " + "x " * 61
    found = passages(tmp_path, said)
    assert found[0].text.endswith("was!)")


def test_a_file_of_white_space_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match=r"notes\.txt has no text"):
        passages(tmp_path, " \n\t\n")


@settings(deadline=None)  # files take the time they take
@given(st.lists(st.lists(st.lists(st.sampled_from(["a", "b.", "c?”"]), max_size=90), max_size=5)))
def test_no_word_is_lost_and_each_passage_begins_on_its_line(
    tmp_path_factory: pytest.TempPathFactory, paragraphs: list[list[list[str]]]
) -> None:
    text = "\n\n".join("\n".join(" ".join(line) for line in lines) for lines in paragraphs)
    found = passages(tmp_path_factory.mktemp("txt"), "first\n\n" + text)
    assert " ".join(passage.text for passage in found).split() == ["first", *text.split()]
    assert max(lengths(found)) <= LONGEST
    lines = ("first\n\n" + text).split("\n")
    for passage in found:
        assert passage.line is not None
        assert passage.text.split()[0] in lines[passage.line - 1].split()
