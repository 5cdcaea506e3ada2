"""Which files are refused, each with one sentence that names it and says what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.demo.readers import Kind, UnreadableFile, kind_of, read_passages
from penstock.demo.readers.files import read_lines

every_kind = pytest.mark.parametrize("kind", Kind)
NOBODY = 65534


def refusal(path: Path) -> str:
    with pytest.raises(UnreadableFile) as refused:
        read_passages(path)
    message = str(refused.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


@pytest.fixture
def as_nobody() -> Iterator[None]:
    """The test runs as a user for whom permissions count, also where pytest runs as root."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    yield
    os.seteuid(before)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("talk.wav", Kind.WAV),
        ("a.b.SRT", Kind.SRT),
        ("talk.vtt", Kind.VTT),
        ("notes.txt", Kind.TXT),
        ("README.MD", Kind.MD),
    ],
)
def test_the_kind_is_told_by_the_suffix_in_either_case(name: str, kind: Kind) -> None:
    assert kind_of(Path(name)) is kind


@pytest.mark.parametrize("name", ["talk.mp3", "Makefile", ".txt", "wav"])
def test_an_unknown_kind_is_refused_with_those_there_are(name: str) -> None:
    message = refusal(Path(name))
    assert "convert it to one of .wav, .srt, .vtt, .txt, .md" in message


@every_kind
def test_a_missing_file_is_refused(kind: Kind, tmp_path: Path) -> None:
    assert "does not exist; check its name" in refusal(tmp_path / f"gone.{kind}")


@every_kind
def test_a_directory_is_refused(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / f"folder.{kind}"
    path.mkdir()
    assert "is a directory; name a file in it" in refusal(path)


@every_kind
def test_an_empty_file_is_refused(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / f"empty.{kind}"
    path.touch()
    assert "is empty" in refusal(path)


@every_kind
def test_a_pipe_is_refused_before_it_blocks(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / f"pipe.{kind}"
    os.mkfifo(path)
    assert "is a device or a pipe" in refusal(path)


@every_kind
def test_a_file_without_permission_is_refused(
    kind: Kind, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / f"secret.{kind}"
    path.write_text("text")
    path.chmod(0)
    request.getfixturevalue("as_nobody")
    assert "change its permissions" in refusal(path)


@every_kind
def test_a_link_that_leads_nowhere_is_refused(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / f"loop.{kind}"
    path.symlink_to(path)
    assert "cannot be opened" in refusal(path)


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.WAV])
@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("Grüße\nüber".encode("latin-1"), "is not UTF-8 text (line 1); save it as UTF-8"),
        (b"one\r\ntwo\r\n\xff", "is not UTF-8 text (line 3); save it as UTF-8"),
        (b"\xff\xfea\x00b", "is not UTF-16 text (line 1); save it as UTF-8"),
        (b"PK\x03\x04\x00\x00", "holds binary data"),
        ("text".encode("utf-32"), "holds binary data"),
    ],
)
def test_what_is_no_text_is_refused(kind: Kind, raw: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / f"broken.{kind}"
    path.write_bytes(raw)
    assert reason in refusal(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r"])
def test_text_is_read_in_each_encoding_and_with_each_line_break(
    encoding: str, line_break: str, tmp_path: Path
) -> None:
    path = tmp_path / "notes.txt"
    lines = ["Grüße", "", "日本\u2028x"]
    path.write_bytes(line_break.join(lines).encode(encoding))
    assert read_lines(path) == lines


def test_utf_16_of_either_byte_order_is_read(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    for mark, encoding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        path.write_bytes(mark + "Grüße".encode(encoding))
        assert read_lines(path) == ["Grüße"]


def test_reading_text_tells_when_it_is_done(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Hello.")
    told: list[float] = []
    read_passages(path, on_progress=told.append)
    assert told == [1.0]
