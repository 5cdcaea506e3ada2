"""What is in hand stays there for as long as its block runs, and no longer than is sensible."""

from __future__ import annotations

import asyncio

import pytest
from nats.aio.msg import Msg

from penstock.infra.bus import Bus
from penstock.infra.consuming.durables import Durable
from penstock.infra.consuming.in_hand import InHand

TAKEOVER = 0.6  # seconds


@pytest.fixture
async def deliveries(bus: Bus) -> asyncio.Queue[str]:
    """The reply subject of each delivery of the one message that there is."""
    queue: asyncio.Queue[str] = asyncio.Queue()
    subject = bus.subjects.deliveries("taker")

    async def take(msg: Msg) -> None:
        queue.put_nowait(msg.reply)

    await bus.nc.subscribe(subject, cb=take)
    stream, events = bus.subjects.event_stream("progress"), bus.subjects.events("progress")
    config = {
        "durable_name": "taker",
        "filter_subject": events,
        "deliver_subject": subject,
        "ack_wait": int(TAKEOVER * 1e9),
    }
    await Durable(bus, stream, config).ensure()
    await bus.publish_acked(bus.subjects.event("progress", "a"), b"")
    return queue


async def test_what_is_in_hand_is_not_delivered_again_until_it_is_let_go(
    bus: Bus, deliveries: asyncio.Queue[str]
) -> None:
    hand = InHand(bus, TAKEOVER)
    with hand.holding(await deliveries.get()):
        await asyncio.sleep(3 * TAKEOVER)
        assert deliveries.empty()
    async with asyncio.timeout(3 * TAKEOVER):
        await deliveries.get()


async def test_what_hangs_is_tried_elsewhere_at_last(
    bus: Bus, deliveries: asyncio.Queue[str]
) -> None:
    with InHand(bus, TAKEOVER, longest=2 * TAKEOVER).holding(await deliveries.get()):
        async with asyncio.timeout(6 * TAKEOVER):
            await deliveries.get()
