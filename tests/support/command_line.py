"""The command `penstock` as a process of its own, free of the settings around the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
PENSTOCK = [sys.executable, "-m", "penstock.cli"]
UP = {"PENSTOCK_HTTP_PORT": "0", "PENSTOCK_DURABILITY": "os"}


def penstock(
    *arguments: str, directory: Path, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*PENSTOCK, *arguments],
        cwd=directory,
        env={**CLEAN, **(environ or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def penstock_up(
    directory: Path, environ: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """`penstock up` in `directory`, ready when the block begins and stopped when it ends."""
    with subprocess.Popen(
        [*PENSTOCK, "up"],
        cwd=directory,
        env={**CLEAN, **UP, **(environ or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            assert process.stdout
            for line in process.stdout:
                if line.startswith("Ctrl-C"):
                    break
            yield process
        finally:
            process.terminate()


def assert_one_clear_line(result: subprocess.CompletedProcess[str], *parts: str) -> None:
    """The command failed, and its last line says so without a traceback."""
    assert result.returncode == 1
    assert "Traceback" not in result.stderr + result.stdout
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("penstock: ")
    for part in parts:
        assert part in line
