"""Fixtures for the bus and the event log: a connection, one that can be cut, a server to kill."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock.infra.bus import Bus
from penstock.infra.event_log import Durability
from penstock.infra.nats_server import EmbeddedNats
from penstock.infra.streams import event_stream
from support.proxy import Proxy


@pytest.fixture
async def bus(nats_url: str, prefix: str) -> AsyncIterator[Bus]:
    """A connection to the session's server, with a stream for the events of `progress`."""
    async with await Bus.connect(nats_url, prefix=prefix) as connected:
        await make_stream(connected)
        yield connected


async def make_stream(bus: Bus) -> None:
    config = event_stream(bus.subjects, "progress")
    await bus.api(f"STREAM.CREATE.{config['name']}", config)


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


@pytest.fixture(params=["fsync", "os"])
def durability(request: pytest.FixtureRequest) -> Durability:
    chosen: Durability = request.param
    return chosen


@pytest.fixture
async def killable(
    tmp_path: Path, prefix: str, durability: Durability
) -> AsyncIterator[tuple[EmbeddedNats, Bus]]:
    """A server of its own, which comes back on the same port when it is killed, and a stream."""
    async with (
        EmbeddedNats(tmp_path, durability=durability) as server,
        await Bus.connect(server.url, prefix=prefix) as bus,
    ):
        await make_stream(bus)
        yield server, bus
