"""The example in the module's docstring is a test that runs."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import penstock.client.testing

APP = """
from penstock.client import Worker
worker = Worker()

@worker.handler
async def welcome(user: str) -> str:
    return f"hello {user}"
"""


def test_the_example_of_the_documentation_passes(tmp_path: Path) -> None:
    text = penstock.client.testing.__doc__ or ""
    example = text.split("::\n", 1)[1].split("\nHandlers run", 1)[0]
    (tmp_path / "app").mkdir()
    (tmp_path / "app/jobs.py").write_text(APP)
    (tmp_path / "test_app.py").write_text(textwrap.dedent(example))
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_app.py"]
    done = subprocess.run(
        run, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
