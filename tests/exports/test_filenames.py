"""Whatever a title says, the name of the file is harmless."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.exports.filenames import LONGEST, content_disposition, safe_filename


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("A talk", "A talk.srt"),
        ("../../etc/passwd", "_.._etc_passwd.srt"),
        ("C:\\x", "C__x.srt"),
        ('say "hi"', "say _hi_.srt"),
        ("a\r\nSet-Cookie: b\x00", "a Set-Cookie_ b.srt"),
        ("", "export.srt"),
        (" .. ", "export.srt"),
        (".hidden", "hidden.srt"),
        ("CON", "_CON.srt"),
        ("com1.txt", "_com1.txt.srt"),
        ("Über straße 日本 🎉", "Über straße 日本 🎉.srt"),
        ("U\u0308ber", "Über.srt"),
        ("photo\u202egpj.exe", "photogpj.exe.srt"),
        ("ends with dots...", "ends with dots.srt"),
    ],
)
def test_a_title_becomes_a_name_that_can_be_saved_anywhere(title: str, name: str) -> None:
    assert safe_filename(title, ".srt") == name


def test_a_long_title_is_cut_between_characters() -> None:
    name = safe_filename("日" * 500, ".srt")
    assert name == "日" * 65 + ".srt"
    assert len(name.encode()) <= LONGEST


@given(st.text())
def test_no_title_gives_a_name_that_is_unsafe(title: str) -> None:
    name = safe_filename(title, ".txt")
    assert name.endswith(".txt")
    assert len(name) > len(".txt")
    assert len(name.encode()) <= LONGEST + 1
    assert not set(name) & set('<>:"/\\|?*')
    assert name.isprintable()
    assert name[0] not in ". "


@given(st.text())
def test_the_header_is_plain_and_gives_the_name_back(title: str) -> None:
    name = safe_filename(title, ".txt")
    header = content_disposition(name)
    assert header.isascii()
    assert header.isprintable()
    plain, extended = header.removeprefix('attachment; filename="').split("\"; filename*=UTF-8''")
    assert not set(plain) & set('"\\')
    assert unquote(extended) == name
