"""Takes a backup of a running system, into a place that counts only once it is whole.

What is copied in which order is in `order`. Never touches what it copies.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from penstock.infra.backup.manifest import (
    FORMAT,
    BackupError,
    Manifest,
    Position,
    StreamCopy,
    Tell,
    check_files,
    write_manifest,
)
from penstock.infra.backup.order import in_order, must_be_whole
from penstock.infra.backup.transfer import Received, receive
from penstock.infra.backup.trial import prove
from penstock.infra.bus import Bus, StreamError
from penstock.infra.data_directory import FileLock, sync
from penstock.infra.restored import refuse_interrupted
from penstock.infra.streams import NOT_FOUND

LOCK = "penstock-backup.lock"
TRIES = 3  # copies of one stream from which something vanished meanwhile


class Backup:
    """One backup of the system at `bus` into `directory`; `binary` is the server to prove it on."""

    def __init__(self, bus: Bus, directory: Path, tell: Tell, *, binary: str | None = None) -> None:
        self._bus = bus
        self._directory = directory.absolute()
        self._tell = tell
        self._binary = binary
        self._queues = (bus.subjects.stream("cmd"), bus.subjects.stream("work"))

    async def take(self, *, verify: bool = True) -> Manifest:
        """Copy everything and, with `verify`, prove it; only then `directory` comes to be.

        Raises BackupError if it is not empty or if the copy is not as it should be, StartupError
        if the system is being restored, StreamError, Timeout, Unavailable or OSError: then there
        is nothing in its place.
        """
        await refuse_interrupted(self._bus)
        with _unfinished(self._directory) as place:
            manifest = await self._copy(place)
            if verify:
                check_files(place, manifest, self._tell)
                manifest = await prove(self._bus, place, manifest, self._tell, self._binary)
            write_manifest(place, manifest)
        return manifest

    async def _copy(self, place: Path) -> Manifest:
        begun = datetime.now(UTC)
        names = in_order(self._bus.subjects)
        consumers = {name: await self._consumers(name) for name in names}
        copies = []
        for name in names:
            file = place / f"{name}.snapshot"
            received = await self._whole(name, file)
            copies.append(
                StreamCopy(
                    name=name,
                    config=received.config,
                    state=received.state,
                    file=file.name,
                    size=received.size,
                    sha256=received.sha256,
                    consumers=consumers[name],
                )
            )
        return Manifest(
            format=FORMAT,
            penstock=version("penstock"),
            server=str(self._bus.nc.connected_server_version).strip("<>").rpartition("v")[2],
            prefix=self._bus.subjects.prefix,
            begun=begun,
            ended=datetime.now(UTC),
            streams=tuple(copies),
        )

    async def _whole(self, name: str, file: Path) -> Received:
        subject = must_be_whole(self._bus.subjects).get(name)
        if subject is None:
            return await receive(self._bus, name, file, self._tell)
        for _ in range(TRIES):
            last = await self._last(name)
            before = await held(self._bus, name, subject, last)
            received = await receive(self._bus, name, file, self._tell)
            if await held(self._bus, name, subject, last) >= before:
                return received
        raise BackupError(
            f"Something was removed from {name} each time while it was copied (an erasure, or "
            "the archive): try again when that has ended."
        )

    async def _last(self, name: str) -> int:
        info = await self._bus.api(f"STREAM.INFO.{name}")
        return int(info["state"]["last_seq"])

    async def _consumers(self, name: str) -> tuple[Position, ...]:
        """Of a queue none: what is in it is not done, or known to be, and begins anew."""
        try:
            await self._bus.api(f"STREAM.INFO.{name}")
        except StreamError as error:
            if error.err_code != NOT_FOUND:
                raise
            raise BackupError(
                f"There is no stream {name}: is this a running Penstock, and is "
                "PENSTOCK_PREFIX the right one?"
            ) from error
        if name in self._queues:
            return ()
        return tuple([position async for position in self._durable(name)])

    async def _durable(self, name: str) -> AsyncIterator[Position]:
        seen = 0
        while True:
            page = await self._bus.api(f"CONSUMER.LIST.{name}", {"offset": seen})
            for found in page["consumers"] or ():
                seen += 1
                if "durable_name" in found["config"]:
                    floor = found["ack_floor"]["stream_seq"]
                    yield Position(name=found["name"], config=found["config"], floor=floor)
            if seen >= page["total"] or not page["consumers"]:
                return


async def held(bus: Bus, stream: str, subject: str, upto: int) -> int:
    """How many messages on `subject` a stream has, up to a sequence."""
    return await _held(bus, stream, subject, 0) - await _held(bus, stream, subject, upto)


async def _held(bus: Bus, stream: str, subject: str, after: int) -> int:
    request = {"seq": after + 1, "next_by_subj": subject, "batch": 1}
    found = await bus.direct_get(stream, request)
    return found[0].pending + 1 if found else 0


@contextmanager
def _unfinished(directory: Path) -> Iterator[Path]:
    """A place beside `directory` that becomes it at the end; removed if it does not get there.

    What a killed backup left there is removed first. Raises BackupError or OSError.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise BackupError(f"{directory} exists and is not empty; name a directory that is not.")
    place = directory.with_name(directory.name + ".partial")
    if place.exists() and any(place.iterdir()) and not (place / LOCK).exists():
        raise BackupError(f"{place} is in the way and is no unfinished backup; move it away.")
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FileLock(place / LOCK)
    if not lock.acquire():
        raise BackupError(f"Another backup is being written to {directory}; wait for its end.")
    try:
        _clear(place)
        yield place
        (place / LOCK).unlink()
        sync(place)
        place.rename(directory)
        sync(directory.parent)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    finally:
        lock.release()


def _clear(place: Path) -> None:
    for left in place.iterdir():
        if left.is_dir():
            shutil.rmtree(left)
        elif left.name != LOCK:
            left.unlink()
