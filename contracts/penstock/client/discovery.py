"""Finds the system that an application should talk to; never connects to it and starts nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from penstock.contracts.errors import Unavailable

DIRECTORY = ".penstock"
LOCK = "lock"
SYSTEM = "system.json"


class RunningSystem(msgspec.Struct, frozen=True, kw_only=True):
    """What a running system says of itself in `system.json`.

    `nats_url` contains the password: show `without_password(nats_url)`.
    """

    pid: int
    started: datetime
    nats_url: str
    http_url: str
    version: str


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where to connect: NATS, the `.creds` file to prove who we are, and the HTTP API if known."""

    nats_url: str
    creds_path: Path | None = None
    http_url: str | None = None


def connection_target(
    url: str | None, environ: Mapping[str, str], start: Path | None = None
) -> Target:
    """Where an application connects that was given `url`.

    In this order: `url`; PENSTOCK_NATS_URL with PENSTOCK_NATS_CREDS (the path of a `.creds` file)
    and PENSTOCK_HTTP_URL; the system on the data in PENSTOCK_DATA; the one that `penstock up` runs
    in the directory `start` (the working directory unless given) or above it. The variables of
    another system belong together, so an explicit `url` takes
    none of them. An empty variable counts as not set.

    Raises `Unavailable` if there is nothing to connect to, or no file at PENSTOCK_NATS_CREDS.
    """
    if url:
        return Target(nats_url=url)
    if named := environ.get("PENSTOCK_NATS_URL"):
        return Target(
            nats_url=named,
            creds_path=_creds_path(environ),
            http_url=environ.get("PENSTOCK_HTTP_URL") or None,
        )
    if found := running_system(environ, start):
        return Target(nats_url=found.nats_url, http_url=found.http_url)
    raise Unavailable(
        f"No Penstock system runs in {start or Path.cwd()} or above it: "
        "start one with `penstock up`, or set PENSTOCK_NATS_URL to the address of another."
    )


def find_system(start: Path | None = None) -> RunningSystem | None:
    """The system that runs in `start` (the working directory unless given) or nearest above it.

    A file left by a system that died is not taken for a running one. Raises `Unavailable` if the
    nearest running system belongs to another user or describes itself in a form unknown here.
    """
    if sys.platform == "win32":  # `penstock up` needs a POSIX system
        return None
    origin = (start or Path.cwd()).absolute()
    for parent in (origin, *origin.parents):
        if system := system_in(parent / DIRECTORY):
            return system
    return None


def running_system(environ: Mapping[str, str], start: Path | None = None) -> RunningSystem | None:
    """The system in the directory that PENSTOCK_DATA names, or without it `find_system(start)`."""
    if named := environ.get("PENSTOCK_DATA"):
        return system_in((start or Path.cwd()) / Path(named).expanduser())
    return find_system(start)


def system_in(directory: Path) -> RunningSystem | None:
    """The system that runs on the data in `directory`. Raises as `find_system` does."""
    if sys.platform == "win32" or not is_held(directory / LOCK):
        return None
    _check_owner(directory)
    return read_system(directory)


def read_system(directory: Path) -> RunningSystem | None:
    """What `system.json` in `directory` says, or None if there is none: alive is not asked here."""
    path = directory / SYSTEM
    try:
        return msgspec.json.decode(path.read_bytes(), type=RunningSystem)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unavailable(
            f"{path} cannot be read ({error.strerror}): "
            "correct its permissions, or set PENSTOCK_NATS_URL."
        ) from error
    except msgspec.DecodeError as error:
        raise Unavailable(
            f"{path} was written by another version of Penstock ({error}): "
            "use the same version here, or set PENSTOCK_NATS_URL."
        ) from error


def is_held(lock: Path) -> bool:
    """Whether a living process holds the flock on `lock`.

    The kernel drops the lock with its holder, so that neither a crash nor a process id used again
    can deceive. Trying takes a shared lock for an instant. A lock that we may not open counts as
    held: whoever asks must then be told about the permission.
    """
    if sys.platform == "win32":
        return False
    import fcntl

    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def without_password(url: str) -> str:
    """`url` without user and password, fit to be shown."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _check_owner(directory: Path) -> None:
    # Searching upwards passes directories that everybody may write to, such as /tmp: a system
    # that another user put there must not get our messages.
    if sys.platform != "win32" and directory.stat().st_uid != os.geteuid():
        raise Unavailable(
            f"The system in {directory} belongs to another user: "
            "set PENSTOCK_NATS_URL to use it, or start your own with `penstock up`."
        )


def _creds_path(environ: Mapping[str, str]) -> Path | None:
    if not (named := environ.get("PENSTOCK_NATS_CREDS")):
        return None
    path = Path(named).expanduser()
    if not path.is_file():
        raise Unavailable(f"PENSTOCK_NATS_CREDS names {path}, but there is no such file.")
    return path
