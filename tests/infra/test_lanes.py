"""Taking work ends when it is told to, however it is timed."""

from __future__ import annotations

import asyncio

import pytest
from nats.aio.msg import Msg

from penstock.infra.bus import Bus
from penstock.infra.lanes import Lane, Lanes


async def ignore(_: Msg) -> None:
    """There is no work here."""


@pytest.mark.parametrize("ticks", range(6))
async def test_stopping_ends_also_when_a_message_leaves_at_that_moment(
    bus: Bus, ticks: int
) -> None:
    subject = bus.subjects.events("progress")
    lane = Lane(consumer="lane", subject=subject, rank=0)
    stream = bus.subjects.event_stream("progress")
    lanes = Lanes(bus, stream, [lane], capacity=1, ack_wait=10, take=ignore)
    await lanes.start()
    await asyncio.sleep(0.2)  # until it waits; there is nothing to see from outside
    lanes.in_hand += 1
    lanes.done()
    for _ in range(ticks):
        await asyncio.sleep(0)
    async with asyncio.timeout(2):
        await lanes.stop()
