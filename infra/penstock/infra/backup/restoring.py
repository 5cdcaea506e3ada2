"""Makes the streams of a system from a backup, on a server that has none of them.

Until all is there and checked, a marker stream keeps every service from starting on it. Never
overwrites anything but what an interrupted restore left.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from penstock.infra.backup.contents import read
from penstock.infra.backup.manifest import BackupError, Manifest, Position, StreamCopy, Tell
from penstock.infra.backup.order import left_out
from penstock.infra.backup.patience import has_no_peers_yet, patiently
from penstock.infra.backup.transfer import send
from penstock.infra.backup.trial import at_rest, check_contents, without_server_metadata
from penstock.infra.bus import Bus, StreamError
from penstock.infra.restored import is_interrupted, marker, marks
from penstock.infra.streams import NOT_FOUND, Config


class Restore:
    """One restore of `manifest`, whose files were checked, to the server at `bus`."""

    def __init__(self, bus: Bus, directory: Path, manifest: Manifest, tell: Tell) -> None:
        self._bus = bus
        self._directory = directory
        self._manifest = manifest
        self._tell = tell

    async def run(self, *, replicas: int = 1) -> None:
        """Make every stream, check what the server has of each, and then let them live.

        Raises BackupError if the prefix is another, if there are streams already, or if what the
        server has is not what the backup had; StreamError, Timeout, Unavailable. After a failure
        the server is not usable by services, and the next restore begins from the start.
        """
        self._check_prefix()
        await self._make_room()
        interrupted = {**marker(self._bus), "num_replicas": replicas}
        await self._bus.api(f"STREAM.CREATE.{interrupted['name']}", interrupted)
        for copy in self._manifest.streams:
            await self._make(copy)
        mark = uuid.uuid4().hex
        for copy in self._manifest.streams:
            await self._awaken(copy, mark, replicas)
        await self._bus.api(f"STREAM.DELETE.{interrupted['name']}")

    def _check_prefix(self) -> None:
        wanted, has = self._bus.subjects.prefix, self._manifest.prefix
        if wanted != has:
            raise BackupError(
                f"The backup is of a system with the prefix {has!r}, not {wanted!r}: "
                f"set PENSTOCK_PREFIX={has}."
            )

    async def _make_room(self) -> None:
        present = [name for name in self._names() if await self._exists(name)]
        if not present:
            return
        if not await is_interrupted(self._bus):
            raise BackupError(
                f"The server has streams of this system already ({', '.join(present[:3])}...): "
                "nothing is overwritten; use another server, prefix or data directory."
            )
        for name in present:  # the marker last
            await self._bus.api(f"STREAM.DELETE.{name}")

    def _names(self) -> list[str]:
        copied = [copy.name for copy in self._manifest.streams]
        return [*copied, *left_out(self._bus.subjects), marker(self._bus)["name"]]

    async def _exists(self, name: str) -> bool:
        try:
            await self._bus.api(f"STREAM.INFO.{name}")
        except StreamError as error:
            if error.err_code != NOT_FOUND:
                raise
            return False
        return True

    async def _make(self, copy: StreamCopy) -> None:
        file = self._directory / copy.file
        await send(self._bus, copy, at_rest(copy.config), file, self._tell)
        check_contents(copy, await read(self._bus, copy.name, self._tell))

    async def _awaken(self, copy: StreamCopy, mark: str, replicas: int) -> None:
        config = without_server_metadata(copy.config)
        metadata = {**config["metadata"], **marks(mark)}
        awake: Config = {**config, "num_replicas": replicas, "metadata": metadata}
        if config.get("allow_msg_schedules"):
            # A running server does not look for schedules in what a stream has already.
            await self._bus.api(f"STREAM.DELETE.{copy.name}")
            await send(self._bus, copy, awake, self._directory / copy.file, self._tell)
        else:
            await self._bus.api(f"STREAM.UPDATE.{copy.name}", awake)
        for position in copy.consumers:
            await self._place(copy.name, position)

    async def _place(self, stream: str, position: Position) -> None:
        """Make the consumer again, to begin behind what it had acknowledged."""
        config: dict[str, Any] = without_server_metadata(position.config)
        request = {"stream_name": stream, "config": config, "action": "create"}
        filtered = config.get("filter_subject")
        path = f"{stream}.{position.name}" + (f".{filtered}" if filtered else "")
        await patiently(lambda: self._bus.api(f"CONSUMER.CREATE.{path}", request), has_no_peers_yet)
        if position.floor:
            behind = {"seq": position.floor + 1}
            await self._bus.api(f"CONSUMER.RESET.{stream}.{position.name}", behind)
