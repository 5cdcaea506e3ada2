"""Markdown in passages: headings as context, code whole, marks reduced to their text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.demo.readers import Passage, UnreadableFile, read_passages
from penstock.demo.readers.inline import plain

PAGE = """---
title: Not text
---
# The *main* page #

Some **bold** text with a [link](https://example.org "title")
over two lines.

## Setup

1. Install `it`
2. Run it
   with care
- [x] done

```bash
pip install it

# no heading
```
Deep
----
> Quoted text
> goes on.

### Deeper
#### Deepest ####
Text there.

Other
=====
| a | b |
|---|:-:|
| 1 | 2 |

***

[ref]: https://example.org
The [end][ref].
"""


def passages(tmp_path: Path, text: str) -> list[Passage]:
    path = tmp_path / "page.md"
    path.write_bytes(text.encode())
    return read_passages(path)


def test_a_page_gives_its_text_below_its_headings(tmp_path: Path) -> None:
    main, setup, deep = ("The main page",), ("The main page", "Setup"), ("The main page", "Deep")
    assert passages(tmp_path, PAGE) == [
        Passage(text="Some bold text with a link over two lines.", line=6, headings=main),
        Passage(text="1. Install it", line=11, headings=setup),
        Passage(text="2. Run it with care", line=12, headings=setup),
        Passage(text="done", line=14, headings=setup),
        Passage(text="pip install it\n\n# no heading", line=17, headings=setup),
        Passage(text="Quoted text goes on.", line=23, headings=deep),
        Passage(text="Text there.", line=28, headings=(*deep, "Deeper", "Deepest")),
        Passage(text="| a | b |", line=32, headings=("Other",)),
        Passage(text="| 1 | 2 |", line=34, headings=("Other",)),
        Passage(text="The end.", line=39, headings=("Other",)),
    ]


def test_a_rule_at_the_top_is_no_front_matter(tmp_path: Path) -> None:
    assert [p.text for p in passages(tmp_path, "---\nfirst\n\nsecond\n")] == ["first", "second"]


@pytest.mark.parametrize("fence", ["```", "````python", "~~~", "  ```"])
def test_fenced_code_is_one_passage_however_long(tmp_path: Path, fence: str) -> None:
    marks = fence.strip().removesuffix("python")
    code = "\n".join(f"line_{i} = [{i}](x)  # `not` a mark" for i in range(300))
    (found,) = passages(tmp_path, f"{fence}\n{code}\n{marks}\n")
    assert found == Passage(text=code, line=2)


@pytest.mark.parametrize(
    ("line", "heading"),
    [
        ("# C# ", "C#"),
        ("#\ta ##", "a"),
        ("## a # b #####", "a # b"),
        ("# " + " " * 50_000 + "a", "a"),
    ],
)
def test_the_marks_that_close_a_heading_are_left_out(
    line: str, heading: str, tmp_path: Path
) -> None:
    assert passages(tmp_path, f"{line}\ntext") == [
        Passage(text="text", line=2, headings=(heading,))
    ]


@pytest.mark.parametrize("line", ["#tag", "####### seven", r"\# escaped"])
def test_a_line_that_only_looks_like_a_heading_is_text(line: str, tmp_path: Path) -> None:
    (found,) = passages(tmp_path, line)
    assert found.headings == ()


def test_a_shorter_fence_does_not_close_code_and_the_end_of_the_file_does(tmp_path: Path) -> None:
    assert passages(tmp_path, "````\n```\nx\n") == [Passage(text="```\nx", line=2)]


def test_a_greater_than_sign_within_a_line_is_no_quotation(tmp_path: Path) -> None:
    text = "a -> b > c <!-- so -->\n\n```\nx > 1\n```\n"
    assert [p.text for p in passages(tmp_path, text)] == ["a -> b > c", "x > 1"]


def test_quoted_code_loses_its_quotation_marks(tmp_path: Path) -> None:
    assert passages(tmp_path, "> ```\n> x > 1\n> ```\n> after\n") == [
        Passage(text="x > 1", line=2),
        Passage(text="after", line=4),
    ]


def test_code_that_is_indented_in_a_list_is_moved_to_the_margin(tmp_path: Path) -> None:
    assert passages(tmp_path, "- do\n\n  ```\n  if x:\n      y\n  ```\n")[1] == Passage(
        text="if x:\n    y", line=4
    )


@pytest.mark.parametrize(
    ("marked", "text"),
    [
        ("[a](b)", "a"),
        ("[a b](<c d>)", "a b"),
        ("[a](https://x.org/b_(c))", "a"),
        ("[`a[0]`][ref]", "a[0]"),
        ("[![build](b.svg)](https://x.org)", "build"),
        ("![a picture](x.png)", "a picture"),
        ("<https://x.org/a>", "https://x.org/a"),
        ("<me@x.org>", "me@x.org"),
        ("**a** *b* _c_ __d__ ***e***", "a b c d e"),
        ("**[a](b) and `c`**", "a and c"),
        ("snake_case_name and 2 * 3 * 4", "snake_case_name and 2 * 3 * 4"),
        (r"a \` b `c`", "a ` b c"),
        (r"\*not emphasis\* and \[no\](link)", "*not emphasis* and [no](link)"),
        ("`a_b_c *x* [y](z)` and ``a ` b``", "a_b_c *x* [y](z) and a ` b"),
        ("before <!-- hidden --> after", "before  after"),
        ("[an array] (of words)", "[an array] (of words)"),
    ],
)
def test_marks_are_reduced_to_the_text_that_a_reader_sees(marked: str, text: str) -> None:
    assert plain(marked) == text


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "mark", ["*", "`", "_", "[", "![", "[](", "<", "<!--", "](", "a*", "`` ", "[]", "[a](", "**a "]
)
def test_marks_that_are_never_closed_take_no_more_than_their_time(mark: str) -> None:
    assert set(plain(mark * 5_000)) <= set(mark)


def test_a_page_without_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match=r"page\.md has no text"):
        passages(tmp_path, "# Only\n\n---\n\n## Headings\n")


@settings(deadline=None)  # files take the time they take
@given(
    st.lists(st.sampled_from(["", "word", "# h", "- i", "> q", "```", "---", "1. n", "===", "  x"]))
)
def test_every_passage_begins_on_its_line(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    lines = ["start", "", *lines]
    for passage in passages(tmp_path_factory.mktemp("md"), "\n".join(lines)):
        assert passage.line is not None
        assert passage.text.split()[0] in lines[passage.line - 1]
