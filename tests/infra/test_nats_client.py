"""Headers are read as the library reads them, and it still asks our way of doing so."""

from __future__ import annotations

import asyncio

import pytest
from nats.aio.client import Client

from penstock.infra.bus import Bus
from penstock.infra.nats_client import NatsClient
from penstock.infra.nats_server import EmbeddedNats


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\r\n",
        b"Nats-Expected-Last-Subject-Sequence: 7\r\n\r\n",
        b"Nats-Batch-Id: 0a1b\r\nNats-Batch-Sequence: 2\r\nNats-Batch-Commit: 1\r\n\r\n",
        b"traceparent:00-a-b-01\r\nname:\tvalue \r\nempty:\r\nurl: http://a:1\r\n\r\n",
        "Text: größe – 日本\r\n\r\n".encode(),
        b"Broken: \xff\xfe\r\nno colon\r\n\r\n",
        b"Twice: 1\r\nTwice: 2\r\n\r\n",
    ],
)
def test_headers_are_read_as_by_the_library(raw: bytes) -> None:
    assert NatsClient._parse_header_lines(raw) == Client._parse_header_lines(raw)


async def test_the_library_asks_our_way_of_reading_headers(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []

    def reading(raw: bytes) -> dict[str, str]:
        read.append(raw)
        return {"Read": "by us"}

    subscription = await bus.nc.subscribe("headers")
    monkeypatch.setattr(NatsClient, "_parse_header_lines", staticmethod(reading))
    await bus.publish("headers", b"", {"Name": "value"})
    assert (await subscription.next_msg(5)).headers == {"Read": "by us"}
    assert read


async def test_a_client_that_lost_the_cancellation_of_its_reconnecting_ends_all_the_same(
    fresh_nats: EmbeddedNats,
) -> None:
    bus = await Bus.connect(fresh_nats.url)
    lost = asyncio.create_task(bus.nc._select_next_server())
    bus.nc._reconnection_task = lost  # as if it had not been cancelled
    await fresh_nats.stop()
    await asyncio.sleep(0)
    bus.nc._status = Client.CLOSED
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(5):
            await lost
