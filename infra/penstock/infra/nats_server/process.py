"""One run of nats-server: started under a guard, waited for, stopped. It is never started again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import urlsplit

import msgspec
import nats.errors
from nats.aio.client import Client

from penstock.contracts.errors import StartupError
from penstock.infra.nats_server import guard
from penstock.infra.nats_server.configuration import Files, Identity
from penstock.infra.nats_server.leftover import POLL, stop_leftover

log = logging.getLogger(__name__)

GUARD_MARGIN = 2.0
"""Seconds the guard has, beyond the grace, to see to the end of the server."""

CLOSED = -1
"""What a closed socket has for a file descriptor."""

_TELLING = re.compile(r"\[FTL\]|\[ERR\]|^panic:|^fatal error:|^nats-server:")
_LOG_PREFIX = re.compile(r"^\[\d+\] \S+ \S+ (UTC )?")


class Listener(NamedTuple):
    """A server that listens: its process id and port."""

    pid: int
    port: int


class ServerProcess:
    """A nats-server that runs for as long as this process lives, and no longer.

    The guard is not run through asyncio, which would kill it, and so leave the server without it,
    when the event loop is closed too early.
    """

    def __init__(self, binary: Path, files: Files, grace: float) -> None:
        """Start `binary` on what `files` configures; `ready` waits for it. Raises `OSError`."""
        self._files = files
        self._grace = grace
        self._lifeline, guards_end = socket.socketpair()
        self._lifeline.setblocking(False)
        try:
            with guards_end, _open_log(files) as output:
                self._log_start = output.tell()
                self._guard = _start_guard(binary, files, grace, guards_end, output)
        except OSError:
            self._lifeline.close()
            raise

    async def ready(self, identity: Identity, timeout: float) -> Listener:
        """Wait until the server listens, knows our credentials and has JetStream.

        Recovering a large store can take long: a line is logged at each twelfth of `timeout`
        seconds. Raises `StartupError` if the server ends or is not ready in time.
        """
        progress = asyncio.create_task(self._tell_progress(timeout / 12))
        try:
            async with asyncio.timeout(timeout):
                listener = await self.listening()
                await _use_jetstream(identity.url(listener.port), timeout)
        except TimeoutError as error:
            raise StartupError(
                f"nats-server was not ready within {timeout:g} s; it last said: {self.last_words()}"
            ) from error
        except (OSError, nats.errors.Error) as error:
            raise StartupError(
                f"nats-server listens but cannot be used ({error}); "
                f"it last said: {self.last_words()}"
            ) from error
        finally:
            progress.cancel()
        return listener

    async def wait(self) -> None:
        """Return when the server, or its guard, has ended. One task may wait at a time."""
        if self._lifeline.fileno() != CLOSED:
            # The guard writes nothing: what arrives is the end, when it has gone.
            await asyncio.get_running_loop().sock_recv(self._lifeline, 1)
            self._guard.wait()
            self._lifeline.close()

    async def stop(self) -> None:
        """End the server: SIGTERM and, after the grace, SIGKILL; on return it is gone."""
        # The guard may have ended by itself, and its end of the line with it.
        with contextlib.suppress(OSError):
            self._lifeline.shutdown(socket.SHUT_WR)
        try:
            async with asyncio.timeout(self._grace + GUARD_MARGIN):
                await self.wait()
        except TimeoutError:
            self._guard.kill()
            await self.wait()
        # Nothing is left over, unless somebody stopped or killed the guard.
        await stop_leftover(self._files, self._grace)

    def last_words(self) -> str:
        """The line of this run's log that best tells why it ended, and the log's path."""
        lines = self._log_lines()
        telling = [line for line in lines if _TELLING.search(line)] or lines or ["nothing"]
        return f"{_LOG_PREFIX.sub('', telling[-1])} (log: {self._files.log})"

    def _log_lines(self) -> list[str]:
        try:
            content = self._files.log.read_bytes()
        except FileNotFoundError:  # removed by hand
            return []
        # A log that was rotated since is shorter, and all of it is this run's.
        ours = content[self._log_start :] if len(content) >= self._log_start else content
        return [line for line in ours.decode(errors="replace").splitlines() if line.strip()]

    async def _tell_progress(self, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            log.warning("nats-server is still starting; it last said: %s", self.last_words())

    async def listening(self) -> Listener:
        """Wait until the server listens, whatever else is not ready. Raises `StartupError`."""
        while (listener := _told(self._files)) is None:
            if self._guard.poll() is not None:
                raise StartupError(f"nats-server ended while it started: {self.last_words()}")
            await asyncio.sleep(POLL)
        return listener


def _start_guard(
    binary: Path, files: Files, grace: float, lifeline: socket.socket, output: BinaryIO
) -> subprocess.Popen[bytes]:
    python = [sys.executable, "-I", "-S"]
    program = [str(binary), "-c", str(files.configuration)]
    return subprocess.Popen(
        [*python, guard.__file__, str(os.getpid()), str(grace), *program],
        stdin=lifeline.fileno(),
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd=files.directory,
        # A terminal's Ctrl-C is for us alone: we still need the server while we drain.
        start_new_session=True,
    )


def _open_log(files: Files) -> BinaryIO:
    # Opened for appending, as nats-server does too: what it says before and beside its own log,
    # such as the trace of a crash, lands in the same file.
    descriptor = os.open(files.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "ab")


def _told(files: Files) -> Listener | None:
    # The file is named `nats-server_<pid>.ports`. It may be half written, or gone with a server
    # that ended at once.
    for path in files.ports.glob("*.ports"):
        with contextlib.suppress(msgspec.DecodeError, FileNotFoundError):
            told = msgspec.json.decode(path.read_bytes(), type=dict[str, list[str]])
            if port := urlsplit(told["nats"][0]).port:
                return Listener(int(path.stem.rpartition("_")[2]), port)
    return None


async def _use_jetstream(url: str, timeout: float) -> None:
    client = Client()
    try:
        # Without these it would go on for minutes after a server that has ended meanwhile.
        await client.connect(
            url,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=math.ceil(timeout),
        )
        await client.jetstream(timeout=timeout).account_info()
    finally:
        await client.close()
