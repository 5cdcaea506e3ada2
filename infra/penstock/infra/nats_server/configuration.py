"""Where a nats-server of ours keeps its files, who may connect, and how it is configured.

Nothing here starts or stops a process.
"""

from __future__ import annotations

import secrets
import shutil
import socket
from pathlib import Path
from typing import Any, Literal

import msgspec

from penstock.contracts.errors import StartupError
from penstock.infra.data_directory import write_private

HOST = "127.0.0.1"
"""The only address to listen on: what should be reached from elsewhere is not embedded."""

ANY_PORT = -1
"""nats-server's word for a free port that it picks itself, so that nobody can be faster."""

MAX_PAYLOAD = 8 * 1024 * 1024
"""The largest message. One envelope has to fit whole, and above 8 MiB nats-server itself warns:
a message is copied to every subscriber's buffer. Larger things go to the object store."""

MAX_MEMORY_STORE = 256 * 1024 * 1024
"""Our streams are on disk. The default would let memory streams take 75% of the machine."""

LOG_SIZE, LOG_FILES = 10_000_000, 3
"""The log is rotated at so many bytes, and so many older ones are kept."""

Durability = Literal["fsync", "os"]


class Files(msgspec.Struct, frozen=True):
    """The files of one nats-server; `directory` is absolute."""

    directory: Path

    @property
    def lock(self) -> Path:
        """Held by whoever runs a server here."""
        return self.directory / "lock"

    @property
    def identity(self) -> Path:
        """`Identity` as JSON."""
        return self.directory / "identity.json"

    @property
    def configuration(self) -> Path:
        """What nats-server reads."""
        return self.directory / "nats.conf"

    @property
    def log(self) -> Path:
        """What nats-server and its guard have to say."""
        return self.directory / "nats.log"

    @property
    def pid(self) -> Path:
        """Written by nats-server, never removed by it."""
        return self.directory / "nats.pid"

    @property
    def ports(self) -> Path:
        """The directory in which nats-server tells its port once it listens."""
        return self.directory / "ports"

    @property
    def store(self) -> Path:
        """The streams. nats-server adds this name to the `store_dir` it is given."""
        return self.directory / "jetstream"


class Identity(msgspec.Struct, frozen=True):
    """What clients know a server by; it outlives the server, so that they can reconnect."""

    user: str
    password: str
    port: int | None = None

    def url(self, port: int) -> str:
        """The address with the credentials in it."""
        return f"nats://{self.user}:{self.password}@{HOST}:{port}"


def load_identity(files: Files) -> Identity:
    """The identity kept in `files`, made at the first time.

    Raises `StartupError` if the file is damaged, `OSError` if it cannot be read or written.
    """
    try:
        return msgspec.json.decode(files.identity.read_bytes(), type=Identity)
    except FileNotFoundError:
        identity = Identity(user="penstock", password=secrets.token_urlsafe(32))
        save_identity(files, identity)
        return identity
    except msgspec.DecodeError as error:
        raise StartupError(
            f"{files.identity} is damaged ({error}): remove it to have new credentials made."
        ) from error


def save_identity(files: Files, identity: Identity) -> None:
    """Keep `identity` for the next start."""
    write_private(files.identity, msgspec.json.encode(identity))


def choose_port(wanted: int, remembered: int | None) -> int:
    """The port to configure: the one `wanted`; for 0 the one `remembered` if free, else any.

    Looking before nats-server does saves the recovery of a large store, which it does first.
    Raises `StartupError` if the one wanted cannot be used.
    """
    if not wanted:
        return remembered if remembered and not _obstacle(remembered) else ANY_PORT
    if obstacle := _obstacle(wanted):
        raise StartupError(
            f"NATS cannot use port {wanted} on {HOST} ({obstacle}): stop what uses it, "
            "or set PENSTOCK_NATS_PORT to another port, or to 0 for any free one."
        )
    return wanted


def write_configuration(
    files: Files, identity: Identity, *, port: int, durability: Durability, **more: Any
) -> None:
    """Write the configuration as JSON, which nats-server reads too. Raises `OSError`.

    `more` are further settings, by nats-server's own names.
    """
    settings = {
        "server_name": "penstock",
        "host": HOST,
        "port": port,
        "authorization": {"user": identity.user, "password": identity.password},
        "max_payload": MAX_PAYLOAD,
        "pid_file": str(files.pid),
        "ports_file_dir": str(files.ports),
        "log_file": str(files.log),
        "logtime_utc": True,
        "logfile_size_limit": LOG_SIZE,
        "logfile_max_num": LOG_FILES,
        "jetstream": {
            "store_dir": str(files.directory),
            "max_memory_store": MAX_MEMORY_STORE,
            "max_file_store": _store_limit(files),
        }
        | ({"sync_interval": "always"} if durability == "fsync" else {}),
        **more,
    }
    write_private(files.configuration, msgspec.json.encode(settings))


def forget_last_run(files: Files) -> None:
    """Remove what the last server told of itself, so that it is not taken for the next one's."""
    files.pid.unlink(missing_ok=True)
    files.ports.mkdir(mode=0o700, exist_ok=True)
    for told in files.ports.iterdir():
        told.unlink()


def _store_limit(files: Files) -> int:
    # By default it is 75% of what is free at start, without what the store already has: with
    # every restart a growing store may hold less, until it refuses to grow (nats-server #8322).
    # A tenth stays free, since a full disk stops JetStream altogether.
    stored = sum(path.stat().st_size for path in files.store.rglob("*") if path.is_file())
    return stored + shutil.disk_usage(files.directory).free * 9 // 10


def _obstacle(port: int) -> str | None:
    with socket.socket() as listener:
        # As nats-server does: connections just closed do not keep it from listening.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            return error.strerror
        except OverflowError as error:
            return str(error)
    return None
