"""A way from one server of a cluster to another, which can be cut and mended. Never reads along."""

from __future__ import annotations

import asyncio
import contextlib

from penstock.infra.nats_server.configuration import HOST

PIECE = 2**18


class Link:
    """Passes connections on to `port`; connect to `entrance`."""

    def __init__(self, port: int) -> None:
        self.entrance = 0
        self._port = port
        self._is_cut = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen at `entrance`."""
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.entrance = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """End every connection, and listen no more."""
        self.cut()
        if self._server:
            self._server.close()
            await self._server.wait_closed()

    def cut(self) -> None:
        """End every connection; a new one ends at once, until it is mended."""
        self._is_cut = True
        for writer in self._writers:
            writer.transport.abort()

    def mend(self) -> None:
        """Let connections through again."""
        self._is_cut = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if not self._is_cut:
                await self._join(reader, writer)
        except ConnectionError:
            pass  # there is no server at the other end now
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(HOST, self._port)
        self._writers.add(there_writer)
        try:
            await asyncio.gather(_pass(reader, there_writer), _pass(there_reader, writer))
        finally:
            self._writers.discard(there_writer)
            there_writer.transport.abort()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(PIECE):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()
