"""The inline marks of Markdown, reduced to the text that a reader sees. Never changes code."""

from __future__ import annotations

import re

# Each length is bounded, so that a mark which is never closed cannot cost quadratic time.
_CODE = r"(?<![`\\])(?P<ticks>`++)(?P<code>(?!`).{1,2000}?(?<!`))(?P=ticks)(?!`)"
_TARGET = r"(?:\((?:[^()]|\([^()]{0,500}\)){0,2000}\)|\[[^\]]{0,500}\])"
_MARKS = [
    re.compile(f"{_CODE}|{mark}", re.DOTALL)
    for mark in (
        rf"!\[(?P<text>[^\]]{{0,1000}})\]{_TARGET}",
        rf"(?<!\\)\[(?P<text>(?:[^\[\]]|\[[^\[\]]{{0,200}}\]){{0,1000}})\]{_TARGET}",
        r"<(?P<text>[a-z][a-z0-9+.-]{1,30}:[^\s<>]{1,2000}|[^\s<>@]{1,200}@[^\s<>@]{1,200})>",
        r"<!--(?P<text>)(?:.{0,2000}?)-->",
        r"(?<![\w\\*])(?P<mark>\*{1,3})(?![\s*])(?P<text>.{1,1000}?)(?<![\s\\*])(?P=mark)(?!\*)",
        r"(?<![\w\\])(?P<mark>_{1,3})(?![\s_])(?P<text>.{1,1000}?)(?<![\s\\_])(?P=mark)(?!\w)",
    )
]
_CODE_OR_ESCAPE = re.compile(rf"{_CODE}|\\(?P<text>[!-/:-@\[-`{{-~])", re.DOTALL)


def plain(text: str) -> str:
    """`text` without the marks of links, images, emphasis and code, and with escapes undone."""
    for mark in _MARKS:
        text = mark.sub(_inside, text)
    return _CODE_OR_ESCAPE.sub(lambda found: found["code"] or found["text"], text)


def _inside(found: re.Match[str]) -> str:
    return found[0] if found["text"] is None else found["text"]
