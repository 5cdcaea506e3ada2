"""What waits for events ends when it is told to, however it is timed."""

from __future__ import annotations

import asyncio

import pytest

from penstock.infra.bus import Bus
from penstock.infra.event_log import JetStreamEventLog


@pytest.mark.parametrize("ticks", range(6))
async def test_following_ends_also_when_news_comes_at_that_moment(bus: Bus, ticks: int) -> None:
    async with JetStreamEventLog(bus, "progress").follower() as follower:

        async def follow() -> None:
            while True:
                await follower.batch()

        following = asyncio.create_task(follow())
        await asyncio.sleep(0.2)  # until it waits; there is nothing to see from outside
        follower._news.set()  # as a message does that comes in
        for _ in range(ticks):
            await asyncio.sleep(0)
        following.cancel()
        done, _ = await asyncio.wait((following,), timeout=1)
        following.cancel()
        assert done
