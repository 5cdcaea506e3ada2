"""Proves a backup on a nats-server of its own, which is thrown away afterwards.

One stream after the other, so that it takes the room of the largest. Never touches the backup.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec.structs import replace

from penstock.infra.backup.contents import compare, read
from penstock.infra.backup.manifest import (
    BackupError,
    Contents,
    Manifest,
    StreamCopy,
    Tell,
    check_files,
)
from penstock.infra.backup.transfer import send
from penstock.infra.bus import Bus
from penstock.infra.nats_server import EmbeddedNats
from penstock.infra.streams import Config

SPARE = 256 * 1024 * 1024  # bytes to be left free
OURS = "_nats."  # begins what the server itself writes into metadata


def at_rest(config: Config) -> Config:
    """`config` on one server, and so that nothing grows too old or falls due."""
    return {
        **without_server_metadata(config),
        "num_replicas": 1,
        "max_age": 0,
        "allow_msg_schedules": False,
    }


def without_server_metadata(config: Config) -> Config:
    """`config` with the metadata of others than the server."""
    metadata = config.get("metadata") or {}
    ours = {key: value for key, value in metadata.items() if not key.startswith(OURS)}
    return {**config, "metadata": ours}


async def prove(
    original: Bus, directory: Path, manifest: Manifest, tell: Tell, binary: str | None
) -> Manifest:
    """The manifest with the contents that a server found, each message as the original has it.

    Its server's files are in `directory` meanwhile. Raises BackupError if there is a difference,
    or too little room; StartupError, Unavailable.
    """
    proved = []
    async with _server(directory, manifest, binary) as bus:
        for copy in manifest.streams:
            await send(bus, copy, at_rest(copy.config), directory / copy.file, tell)
            contents = await compare(original, bus, copy.name, tell)
            _check_state(copy, contents)
            proved.append(replace(copy, contents=contents))
            await bus.api(f"STREAM.DELETE.{copy.name}")
    return replace(manifest, streams=tuple(proved))


async def check(directory: Path, manifest: Manifest, tell: Tell, binary: str | None) -> None:
    """Check the files of a backup, and that a server finds in them what it did at first.

    Its server's files are beside `directory` meanwhile. Raises BackupError for the first
    difference; StartupError, Unavailable.
    """
    check_files(directory, manifest, tell)
    async with _server(directory.parent, manifest, binary) as bus:
        for copy in manifest.streams:
            await send(bus, copy, at_rest(copy.config), directory / copy.file, tell)
            check_contents(copy, await read(bus, copy.name, tell))
            await bus.api(f"STREAM.DELETE.{copy.name}")


def check_contents(copy: StreamCopy, found: Contents) -> None:
    """Raise BackupError if a server found something else than when the backup was verified."""
    if copy.contents is None:
        _check_state(copy, found)
    elif copy.contents != found:
        raise BackupError(
            f"{copy.name} has {found.messages} messages up to {found.last} with the digest "
            f"{found.digest[:12]}, and the backup says {copy.contents.messages} up to "
            f"{copy.contents.last} with {copy.contents.digest[:12]}; use another backup."
        )


def _check_state(copy: StreamCopy, found: Contents) -> None:
    # Of a queue, what was acknowledged while it was copied is missing: the snapshot's own count
    # is the most that can be there, and its last sequence is exact.
    most, last = copy.state["messages"], copy.state["last_seq"]
    if found.messages > most or found.last != last:
        raise BackupError(
            f"{copy.name} has {found.messages} messages up to {found.last}, and its snapshot said "
            f"{most} up to {last}; make the backup again."
        )


@asynccontextmanager
async def _server(place: Path, manifest: Manifest, binary: str | None) -> AsyncIterator[Bus]:
    _check_room(place, manifest)
    with TemporaryDirectory(dir=place, prefix=".verify-") as directory:
        async with (
            EmbeddedNats(Path(directory), durability="os", binary=binary) as server,
            await Bus.connect(server.url, prefix=manifest.prefix, name="penstock-verify") as bus,
        ):
            yield bus


def _check_room(place: Path, manifest: Manifest) -> None:
    needed = max(copy.state["bytes"] for copy in manifest.streams) * 5 // 4 + SPARE
    if (free := shutil.disk_usage(place).free) < needed:
        raise BackupError(
            f"Verifying takes {needed:,} bytes in {place} and {free:,} are free: make room there, "
            "or use --no-verify."
        )
