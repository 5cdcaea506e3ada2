"""Kills process trees the hard way. Only trees whose root the test has started."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path


def tree(root: int) -> list[int]:
    """`root` and all its descendants, as /proc tells them now."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, ValueError, IndexError):
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(after_name[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def kill_tree(root: int) -> int:
    """SIGKILL `root` and every descendant, until none is left; how many there were.

    All are stopped first, so that none sees another die and does something about it.
    """
    pids = tree(root)
    for signal_number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal_number)
    deadline = time.monotonic() + 10
    while [pid for pid in pids[1:] if alive(pid)]:
        if time.monotonic() > deadline:
            raise AssertionError("a killed process does not go away")
        time.sleep(0.01)
    return len(pids)


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
