"""A TCP proxy before a nats-server, which loses replies and cuts connections when told to."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit


class Proxy:
    """Stands between a client and a nats-server; a test takes away what passes.

    `lose`: bytes; the next time they come from the server, they go nowhere. `lose_sent`: the same
    for bytes that come from the client. `cut_then`: and the connection ends with that.
    """

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._writers: set[asyncio.StreamWriter] = set()
        self.lose: bytes | None = None
        self.lose_sent: bytes | None = None
        self.cut_then = False
        self.lost = asyncio.Event()
        self.url = ""

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        user, password = self._target.username, self._target.password
        self.url = f"nats://{user}:{password}@127.0.0.1:{port}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    def cut(self) -> None:
        """End every connection; a new one is let through."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = self._target.hostname, self._target.port
        server_reader, server_writer = await self._reach(there)
        both = {writer, server_writer}
        self._writers |= both
        try:
            await asyncio.gather(
                self._pass(reader, server_writer, sent=True),
                self._pass(server_reader, writer, sent=False),
            )
        finally:
            self._writers -= both

    async def _reach(
        self, there: tuple[str | None, int | None]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect; a server that was killed is waited for as long as the client does."""
        async with asyncio.timeout(60):
            while True:
                try:
                    return await asyncio.open_connection(*there)
                except ConnectionError:
                    await asyncio.sleep(0.02)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, sent: bool
    ) -> None:
        try:
            while data := await reader.read(2**16):
                if self._loses(data, sent=sent):
                    self.lost.set()
                    if self.cut_then:
                        self.cut()
                        return
                    continue
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass  # the other side has gone, by its own will or by `cut`
        finally:
            writer.close()

    def _loses(self, data: bytes, *, sent: bool) -> bool:
        """Whether this is what is to be lost, once."""
        wanted = self.lose_sent if sent else self.lose
        if not wanted or wanted not in data:
            return False
        if sent:
            self.lose_sent = None
        else:
            self.lose = None
        return True
