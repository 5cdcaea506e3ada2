"""A nats-server that belongs to this process: started, watched, restarted and stopped with it.

How one is launched is not decided here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from penstock.contracts.errors import StartupError, Unavailable
from penstock.infra.data_directory import FileLock, create_private_directory, usable
from penstock.infra.nats_server.configuration import Durability, Files
from penstock.infra.nats_server.launcher import Launcher, Run
from penstock.infra.nats_server.restarts import Restarts

log = logging.getLogger(__name__)


class EmbeddedNats:
    """nats-server with JetStream on 127.0.0.1, its files in `directory`, for this process alone.

    Use it as `async with EmbeddedNats(directory) as server`, or call `start` and `stop`. The
    server ends with this process, even if that is killed; if the server dies alone it is restarted
    with the same port and credentials, so that clients reconnect.

    - `port`: a fixed one; or 0, for the port of the last start if it is free, else any free one.
    - `durability`: what an acknowledgement by JetStream promises. "fsync": the message is on the
      disk, and survives the loss of power. "os": the operating system has it; it survives the
      death of every process, but the loss of power or a crash of the system may take what was
      acknowledged in the last two minutes (nats-server's default `sync_interval`).
    - `binary`: another nats-server than the one installed with this Python or on PATH.
    - `start_timeout`: seconds to be ready; recovering a large store takes long.
    - `grace`: seconds between SIGTERM and SIGKILL when it is stopped.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int = 0,
        durability: Durability = "fsync",
        binary: str | Path | None = None,
        start_timeout: float = 60.0,
        grace: float = 20.0,
    ) -> None:
        self._files = Files(directory.absolute())
        self._lock = FileLock(self._files.lock)
        self._port = port
        self._launcher = Launcher(
            files=self._files,
            durability=durability,
            binary=binary,
            start_timeout=start_timeout,
            grace=grace,
        )
        self._last_run: Run | None = None
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """`nats://user:password@127.0.0.1:port`; it stays the same when the server is restarted."""
        return self._run.url

    @property
    def pid(self) -> int:
        """The process id of nats-server; another one after each restart."""
        return self._run.pid

    @property
    def version(self) -> str:
        """The version of nats-server, such as `2.15.1`."""
        return self._run.version

    @property
    def log_path(self) -> Path:
        """Where nats-server logs."""
        return self._files.log

    async def start(self) -> None:
        """Start the server and return when it is ready for use.

        A server that an earlier process of ours left on `directory` is stopped first. Raises
        `StartupError` if the directory or the port cannot be used, if there is no nats-server that
        is new enough, or if it does not become ready.
        """
        self._take_directory()
        try:
            self._last_run = await self._launcher.launch(self._port)
        except BaseException:
            self._lock.release()
            raise
        self._supervisor = asyncio.create_task(self._supervise())

    async def stop(self) -> None:
        """Stop the server; its data stay. Stopping twice is stopping once."""
        # Without the lock, a server found on the directory would be somebody else's.
        if self._supervisor is None or not self._lock.held:
            return
        self._supervisor.cancel()
        await asyncio.wait({self._supervisor})
        try:
            await self._run.process.stop()
        finally:
            self._lock.release()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def wait_failed(self) -> None:
        """Sleep until the server is given up, then raise `Unavailable`; return if it is stopped.

        Whoever owns the server awaits this beside its own work: without a server nothing goes on.
        """
        supervisor = self._supervisor
        if supervisor is None:
            raise RuntimeError("EmbeddedNats was not started")
        # Neither does cancelling us cancel it, nor stopping the server cancel whoever waits here.
        await asyncio.wait({supervisor})
        if not supervisor.cancelled():
            supervisor.result()

    @property
    def _run(self) -> Run:
        if self._last_run is None:
            raise RuntimeError("EmbeddedNats was not started")
        return self._last_run

    def _take_directory(self) -> None:
        directory = self._files.directory
        with usable(directory):
            create_private_directory(directory)
            if not self._lock.acquire():
                raise StartupError(
                    f"Another process runs a nats-server on {directory}: "
                    "stop it, or set PENSTOCK_DATA to another directory."
                )

    async def _supervise(self) -> None:
        restarts = Restarts()
        while True:
            await self._run.process.wait()
            reason = self._run.process.last_words()
            delay = restarts.delay(time.monotonic())
            if delay is None:
                raise Unavailable(
                    f"nats-server ended {restarts.limit + 1} times within {restarts.window:g} s "
                    f"and is not restarted any more; it last said: {reason}"
                )
            log.error("nats-server ended, restarting it in %.1f s; it last said: %s", delay, reason)
            await asyncio.sleep(delay)
            await self._restart()

    async def _restart(self) -> None:
        try:
            self._last_run = await self._launcher.launch(self._run.port)
        except StartupError as error:
            # The process that we know stays the dead one: its end is noticed again at once.
            log.error("nats-server did not restart: %s", error)
        else:
            log.warning("nats-server runs again, as process %d", self.pid)
