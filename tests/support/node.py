"""Programs of the repository that need Node.js, with their packages installed first."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest


def node_program(directory: Path) -> str:
    """The `node` to run what is in `directory` with, at the versions of its lock file.

    Skips the test where Node.js is not installed, but not in CI: there it has to be.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        missing = "Node.js with npm is not installed (on Debian: apt-get install nodejs npm)"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    lock = (directory / "package-lock.json").read_bytes()
    stamp, now = directory / "node_modules/installed", hashlib.sha256(lock).hexdigest()
    if not stamp.exists() or stamp.read_text() != now:
        subprocess.run([npm, "ci"], cwd=directory, check=True, timeout=300, capture_output=True)
        stamp.write_text(now)
    return node
