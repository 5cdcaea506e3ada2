"""Fixtures for the bus and the event log: a connection, and one that can be cut."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from penstock.infra.bus import Bus
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
