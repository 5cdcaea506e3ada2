"""Opening files, and turning bytes into lines of text. Never what the lines mean."""

from __future__ import annotations

import codecs
import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

from penstock.demo.readers.passage import UnreadableFile

_LINE_BREAK = re.compile(r"\r\n|\r|\n")  # str.splitlines() breaks at more than editors do


def open_file(path: Path) -> BinaryIO:
    """`path`, open for reading bytes. Raises UnreadableFile if there is nothing to be read."""
    try:
        _check_regular(path)
        return path.open("rb")
    except FileNotFoundError:
        raise UnreadableFile(f"{path} does not exist; check its name.") from None
    except PermissionError:
        raise UnreadableFile(
            f"{path} may not be read by this user; change its permissions."
        ) from None
    except OSError as error:
        raise UnreadableFile(
            f"{path} cannot be opened ({error.strerror}); copy it to another place and try that."
        ) from error


def _check_regular(path: Path) -> None:
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise UnreadableFile(f"{path} is a directory; name a file in it.")
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableFile(f"{path} is a device or a pipe; save what it gives to a file first.")
    if status.st_size == 0:
        raise UnreadableFile(f"{path} is empty; write it again, or choose another file.")


def size_of(file: BinaryIO) -> int:
    """The size of an open file in bytes."""
    return os.fstat(file.fileno()).st_size


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, without their ends.

    Reads UTF-8, and UTF-16 that begins with a byte order mark. Raises UnreadableFile.
    """
    with open_file(path) as file:
        raw = file.read()
    encoding = "utf-16" if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UnreadableFile(
            f"{path} is not {encoding.upper()} text (line {line}); save it as UTF-8."
        ) from error
    if "\0" in text:
        raise UnreadableFile(f"{path} holds binary data, not text; choose a text file.")
    return _LINE_BREAK.split(text.removeprefix("\ufeff"))
