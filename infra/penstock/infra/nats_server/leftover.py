"""Stops a nats-server of ours that has lost its guard; never touches any other process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import time
from pathlib import Path

from penstock.contracts.errors import StartupError
from penstock.infra.nats_server.configuration import Files

log = logging.getLogger(__name__)

POLL = 0.02
KILL_PATIENCE = 5.0
PS_TIMEOUT = 10.0


async def stop_leftover(files: Files, grace: float) -> None:
    """Stop the server that runs with our configuration, if there is one.

    The caller holds the lock of `files`, hence no living owner needs that server. It gets SIGTERM
    and, after `grace` seconds, SIGKILL; on return it is gone. Raises `StartupError` if it stays.
    """
    pid = read_pid(files)
    if pid is None or not await _runs(pid, files):
        return
    log.warning("stopping nats-server %d, left over in %s", pid, files.directory)
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, KILL_PATIENCE)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        if await _ended(pid, files, patience):
            return
    raise StartupError(
        f"nats-server {pid}, left over in {files.directory}, does not end: "
        "its disk may hang; end the process, then start again."
    )


def read_pid(files: Files) -> int | None:
    """The process id of the server that was last started, or None if there was none."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return int(files.pid.read_text())
    return None


async def _ended(pid: int, files: Files, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while await _runs(pid, files):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL)
    return True


async def _runs(pid: int, files: Files) -> bool:
    # The id alone may belong to another by now. A zombie has no command line: it counts as gone.
    command = await asyncio.to_thread(command_line, pid)
    return command.endswith(f"-c {files.configuration}")


def command_line(pid: int) -> str:
    """The arguments of a process, separated by spaces; empty if it has ended."""
    return _from_proc(pid) if Path("/proc/self/cmdline").exists() else _from_ps(pid)


def _from_proc(pid: int) -> str:
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return os.fsdecode(arguments).rstrip("\0").replace("\0", " ")


def _from_ps(pid: int) -> str:
    # Where there is no /proc, as on macOS.
    asked = subprocess.run(
        ["ps", "-ww", "-o", "args=", "-p", str(pid)],
        capture_output=True,
        timeout=PS_TIMEOUT,
        check=False,
    )
    return os.fsdecode(asked.stdout).rstrip()
