"""What the README shows runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.cli.demo import system
from penstock.infra.settings import Settings
from support.command_line import CLEAN

ROOT = Path(__file__).parents[2]


def test_the_first_example_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (example, *_) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    program = tmp_path / "example.py"
    program.write_text(example)
    monkeypatch.chdir(tmp_path)
    with system(Settings()):
        result = subprocess.run(
            [sys.executable, str(program)],
            cwd=tmp_path,
            env=CLEAN,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "Hello, Ada!"
    assert "because of penstock.jobs.enqueue.v1" in lines[1]
    assert lines[-1].split()[1] == "penstock.jobs.completed.v1"
