"""Reads one file in a process of its own: `python -m penstock.demo.readers FILE`.

Writes JSON lines to standard output: numbers, the part that is done, and at last the passages as a
list, or one object with the reason why the file cannot be read.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from penstock.demo.readers import UnreadableFile, read_passages


def _tell(line: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


try:
    _tell(read_passages(Path(sys.argv[1]), on_progress=_tell))
except UnreadableFile as error:
    _tell({"unreadable": str(error)})
