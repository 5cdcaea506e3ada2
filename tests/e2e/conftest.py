"""The demo as a user runs it: a process in a directory of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.command_line import CLEAN, PENSTOCK

Demo = Callable[..., subprocess.CompletedProcess[str]]

SUBTITLES = """1
00:00:01,000 --> 00:00:03,500
The lighthouse keeper counts the ships.

2
00:00:04,000 --> 00:00:07,250
Nine of them came home <i>before</i> the storm.
"""
TEXT = """The harvest was late that year, because the rain had not stopped since June.

Every barn in the valley stood open, and the harvest dried slowly in the wind.
"""
MARKDOWN = """# Sailing

A sail needs wind, and a keel needs water.

## Knots

The bowline holds under load and opens when it is asked to.
"""


@pytest.fixture
def demo(tmp_path: Path) -> Demo:
    """Run `penstock demo` with these arguments in `tmp_path`, on data that is kept there."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PENSTOCK, "demo", *map(str, arguments)],
            cwd=tmp_path,
            env={**CLEAN, "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A subtitle file, a text and a Markdown file."""
    contents = {"harbour.srt": SUBTITLES, "harvest.txt": TEXT, "sailing.md": MARKDOWN}
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    return [tmp_path / name for name in contents]
