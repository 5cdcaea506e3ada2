"""Launches nats-server on its files: the binary checked, what was left over stopped, configured.

Whether and when to launch it again is not decided here.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from penstock.infra.data_directory import usable
from penstock.infra.nats_server.binary import checked_version, find_binary
from penstock.infra.nats_server.configuration import (
    Durability,
    Files,
    Identity,
    choose_port,
    forget_last_run,
    load_identity,
    save_identity,
    write_configuration,
)
from penstock.infra.nats_server.leftover import stop_leftover
from penstock.infra.nats_server.process import ServerProcess


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A server that became ready."""

    process: ServerProcess
    pid: int
    port: int
    url: str
    version: str


class Launcher(msgspec.Struct, frozen=True, kw_only=True):
    """How to launch a server; see `EmbeddedNats` for the fields."""

    files: Files
    durability: Durability
    binary: str | Path | None
    start_timeout: float
    grace: float

    async def launch(self, port: int) -> Run:
        """A server that is ready, on `port`; on 0, on the port of the last launch or a free one.

        The caller holds the lock of the files. Raises `StartupError`.
        """
        binary = find_binary(self.binary)
        version = await checked_version(binary)
        await stop_leftover(self.files, self.grace)
        with usable(self.files.directory):
            identity = self._configure(port)
            process = ServerProcess(binary, self.files, self.grace)
        try:
            server = await process.ready(identity, self.start_timeout)
            with usable(self.files.directory):
                save_identity(self.files, msgspec.structs.replace(identity, port=server.port))
        except BaseException:
            await process.stop()
            raise
        return Run(
            process=process,
            pid=server.pid,
            port=server.port,
            url=identity.url(server.port),
            version=version,
        )

    def _configure(self, port: int) -> Identity:
        identity = load_identity(self.files)
        chosen = choose_port(port, identity.port)
        forget_last_run(self.files)
        write_configuration(self.files, identity, port=chosen, durability=self.durability)
        return identity
