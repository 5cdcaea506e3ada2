"""The artefacts as they are on disk and as commits have them. Reads git, never writes to it."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

PLACE = "contracts/schemas"
TIMEOUT = 30.0  # seconds


def on_disk(place: Path) -> dict[str, str]:
    """The files below `place`: path to text."""
    return {
        str(path.relative_to(place)): path.read_text()
        for path in sorted(place.rglob("*"))
        if path.suffix in (".json", ".yaml")
    }


def replace(place: Path, files: dict[str, str]) -> list[str]:
    """Make the files below `place` those given; the paths of what changed."""
    there = on_disk(place)
    for path in there.keys() - files.keys():
        (place / path).unlink()
    for path, text in files.items():
        if there.get(path) != text:
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_text(text)
    return differing(there, files)


def differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """The paths at which two sets of files are not the same."""
    return sorted(p for p in one.keys() | other.keys() if one.get(p) != other.get(p))


def last_commits(root: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The artefacts of the last commit and of the one before it, where there are such.

    Before a commit the first tells what it would change; in a clean clone, as CI has it, the last
    commit is the change itself and the second tells. A shallow clone has only one, and a directory
    without git has none.
    """
    for commit in ("HEAD", "HEAD~1"):
        name = _git(root, "rev-parse", "--short", "--verify", "--quiet", f"{commit}^{{commit}}")
        if name is not None:
            yield name.decode().strip(), of_commit(root, commit)


def of_commit(root: Path, commit: str) -> dict[str, str]:
    """The artefacts of one commit; none where it had none yet."""
    archive = _git(root, "archive", "--format=tar", f"{commit}:{PLACE}")
    if archive is None:
        return {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        found = {member.name: files.extractfile(member) for member in files if member.isfile()}
        return {path: file.read().decode() for path, file in sorted(found.items()) if file}


def _git(root: Path, *arguments: str) -> bytes | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, timeout=TIMEOUT, check=False
        )
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None
