"""Carries the server's own snapshot of a stream to a file, and such a file to a server.

Piece by piece, with as little in memory as is on its way. Never looks into a snapshot.

API: https://docs.nats.io/reference/jetstream/api/stream/snapshot and .../restore
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from nats.aio.msg import Msg

from penstock.contracts.errors import Timeout
from penstock.infra.backup.manifest import BackupError, StreamCopy, Tell
from penstock.infra.backup.patience import is_name_in_use, is_unheard, patiently
from penstock.infra.bus import Bus, StreamError
from penstock.infra.inbox import ConnectionLost, status_of

CHUNK = 256 * 1024  # bytes of one message
WINDOW = 4 * 1024 * 1024  # bytes that the server sends ahead of our acknowledgements
SILENCE = 30.0  # seconds without a chunk after which a snapshot counts as lost
LOOK = 0.5
INSTALLING = 3600.0  # seconds that a server may take over a snapshot once it has all of it
COMPLETE = (None, "204")


class Received(msgspec.Struct, frozen=True):
    """A snapshot in a file: the stream's configuration and state then, size and SHA-256."""

    config: dict[str, Any]
    state: dict[str, Any]
    size: int
    sha256: str


async def receive(bus: Bus, stream: str, path: Path, tell: Tell) -> Received:
    """Write a snapshot of `stream` to `path`, synced to the disk.

    Consumers are left out of it: their state would be of a later instant than the messages.
    Raises BackupError, StreamError, Timeout or Unavailable; OSError if it cannot be written.
    """
    async with _receiving(bus, path) as receiver:
        request = {
            "deliver_subject": receiver.subject,
            "no_consumers": True,
            "jsck": True,
            "chunk_size": CHUNK,
            "window_size": WINDOW,
        }
        told = await bus.api(f"STREAM.SNAPSHOT.{stream}", request, timeout=SILENCE)
        expected = max(told["state"]["bytes"], 1)
        await receiver.complete(lambda size: tell("copying", stream, min(size / expected, 1.0)))
    tell("copying", stream, 1.0)
    return Received(told["config"], told["state"], receiver.size, receiver.digest.hexdigest())


async def send(bus: Bus, copy: StreamCopy, config: dict[str, Any], path: Path, tell: Tell) -> None:
    """Make the stream of `copy` with `config` from the snapshot in `path`.

    Raises StreamError or BackupError if the server refuses it, Timeout or Unavailable; OSError if
    the file cannot be read. What is then there of the stream is of no use.
    """
    request = {"config": config, "state": copy.state}
    answer = await patiently(
        lambda: bus.api(f"STREAM.RESTORE.{copy.name}", request), is_name_in_use
    )
    sent = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            await _give(bus, answer["deliver_subject"], copy.name, chunk, SILENCE)
            sent += len(chunk)
            tell("restoring", copy.name, min(sent / max(copy.size, 1), 1.0))
    await _give(bus, answer["deliver_subject"], copy.name, b"", INSTALLING)
    tell("restoring", copy.name, 1.0)


async def _give(bus: Bus, subject: str, stream: str, chunk: bytes, timeout: float) -> None:
    _check(
        stream,
        await patiently(lambda: bus.request(subject, chunk, timeout=timeout), is_unheard),
    )


def _check(stream: str, answer: bytes) -> None:
    error = msgspec.json.decode(answer).get("error") if answer else None
    if error:
        raise BackupError(
            f"The server does not take the copy of {stream}: {error.get('description')}; "
            "is it as new as the one that the backup was made on?"
        )


@asynccontextmanager
async def _receiving(bus: Bus, path: Path) -> AsyncIterator[_Receiver]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        receiver = _Receiver(bus, file)
        subscription = await bus.nc.subscribe(
            receiver.subject, cb=receiver.take, pending_msgs_limit=0, pending_bytes_limit=0
        )
        try:
            yield receiver
        finally:
            if not bus.nc.is_closed:
                await subscription.unsubscribe()
        file.flush()
        os.fsync(descriptor)


class _Receiver:
    """Writes the chunks that come to `subject`."""

    def __init__(self, bus: Bus, file: BinaryIO) -> None:
        self.subject = bus.nc.new_inbox()
        self.size = 0
        self.digest = hashlib.sha256()
        self._bus = bus
        self._file = file
        self._connection = bus.connections
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def take(self, msg: Msg) -> None:
        """One chunk, or the end; a chunk is acknowledged once it is with the operating system."""
        if self._end.done():
            return
        if not msg.data:
            self._finish(status_of(msg), msg.headers or {})
            return
        try:
            self._file.write(msg.data)
        except OSError as error:
            self._end.set_exception(error)
            return
        self.digest.update(msg.data)
        self.size += len(msg.data)
        if msg.reply:
            await self._bus.publish(msg.reply, b"")

    async def complete(self, tell: Callable[[int], None]) -> None:
        """Wait for the end. Raises StreamError, Timeout, ConnectionLost or OSError."""
        loop = asyncio.get_running_loop()
        seen, heard = -1, loop.time()
        while not self._end.done():
            await asyncio.wait((self._end,), timeout=LOOK)
            if self.size != seen:
                seen, heard = self.size, loop.time()
                tell(seen)
            elif loop.time() - heard > SILENCE:
                raise Timeout("The server stopped in the middle of a snapshot; try again.")
            if self._connection != self._bus.connections or not self._bus.nc.is_connected:
                raise ConnectionLost("The connection was lost during a snapshot; try again.")
        self._end.result()

    def _finish(self, status: str | None, headers: dict[str, str]) -> None:
        if status in COMPLETE:
            self._end.set_result(None)
            return
        reason = headers.get("Description", "")
        self._end.set_exception(
            StreamError(f"The server broke a snapshot off ({status} {reason}); try again.")
        )
