"""Fixtures for the bus and the event log: a connection, one that can be cut, events to store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest

from penstock.contracts.envelope import Envelope, wrap
from penstock.contracts.progress import ProgressUpdated
from penstock.infra.bus import Bus
from penstock.infra.streams import event_stream

MakeEvent = Callable[..., Envelope]


@pytest.fixture
async def bus(nats_url: str, prefix: str) -> AsyncIterator[Bus]:
    """A connection to the session's server, with a stream for the events of `progress`."""
    async with await Bus.connect(nats_url, prefix=prefix) as connected:
        await make_stream(connected)
        yield connected


async def make_stream(bus: Bus) -> None:
    config = event_stream(bus.subjects, "progress")
    await bus.api(f"STREAM.CREATE.{config['name']}", config)


class Proxy:
    """Stands between a client and a nats-server; a test takes away what passes.

    `lose`: bytes; the next time they come from the server, they go nowhere. `cut_then`: and the
    connection ends with that.
    """

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._writers: set[asyncio.StreamWriter] = set()
        self.lose: bytes | None = None
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
        server_reader, server_writer = await asyncio.open_connection(*there)
        both = {writer, server_writer}
        self._writers |= both
        try:
            await asyncio.gather(
                self._pass(reader, server_writer, losing=False),
                self._pass(server_reader, writer, losing=True),
            )
        finally:
            self._writers -= both

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, losing: bool
    ) -> None:
        try:
            while data := await reader.read(2**16):
                if losing and self.lose and self.lose in data:
                    self.lose = None
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


@pytest.fixture
async def proxy(nats_url: str) -> AsyncIterator[Proxy]:
    """A way to the session's server that can be cut: connect to `proxy.url`."""
    async with Proxy(nats_url) as running:
        yield running


@pytest.fixture
async def cut_bus(proxy: Proxy, bus: Bus) -> AsyncIterator[Bus]:
    """As `bus`, on the same streams, but through `proxy`."""
    async with await Bus.connect(proxy.url, prefix=bus.subjects.prefix) as connected:
        yield connected


@pytest.fixture
def event() -> MakeEvent:
    """Makes an event: `event("a", 2, by="c-1", text="...")`."""

    def make(id: str, version: int = 1, *, by: str = "c-0", text: str | None = None) -> Envelope:
        return wrap(
            ProgressUpdated(percent=version % 101, message=text),
            id=f"{by}:{version}",
            subject=id,
            time=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            correlationid=f"flow of {by}",
            causationid=by,
            version=version,
        )

    return make
