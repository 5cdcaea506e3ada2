"""What a consumer takes for acknowledged though it is stored comes back, and nothing else does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from nats.errors import TimeoutError as NothingCame

from penstock.infra.bus import Bus
from penstock.infra.consuming.consumers import ensure_consumer
from penstock.infra.consuming.stranded import stranded
from support.proxy import Proxy

SOON = 0.1
QUEUE = "QUEUE"


@pytest.fixture
async def stream(bus: Bus) -> AsyncIterator[str]:
    """A work queue with a consumer `a` and three messages for it."""
    name = bus.subjects.stream(QUEUE)
    subjects = [f"{bus.subjects.prefix}.queue.>"]
    config = {"name": name, "subjects": subjects, "retention": "workqueue", "allow_direct": True}
    await bus.api(f"STREAM.CREATE.{name}", config)
    await ensure_consumer(bus, name, "a", f"{bus.subjects.prefix}.queue.a.*", 30)
    for number in range(3):
        await bus.publish_acked(f"{bus.subjects.prefix}.queue.a.{number}", b"%d" % number)
    yield name
    await bus.api(f"STREAM.DELETE.{name}")


async def lose(bus: Bus, stream: str, through: int) -> None:
    """What a killed server may do: take all up to a sequence for acknowledged."""
    await bus.api(f"CONSUMER.RESET.{stream}.a", {"seq": through + 1})


async def taken(bus: Bus, stream: str, count: int) -> list[bytes]:
    subscription = await bus.js.pull_subscribe_bind("a", stream)
    found: list[bytes] = []
    async with asyncio.timeout(60):
        while len(found) < count:
            for message in await subscription.fetch(1, timeout=30):
                found.append(message.data)
                await message.ack_sync()
    await subscription.unsubscribe()
    return found


async def test_what_the_server_lost_sight_of_is_delivered_once(bus: Bus, stream: str) -> None:
    await lose(bus, stream, 2)
    part = stranded(bus, stream, every=SOON, soon=SOON)
    await part.start()
    assert sorted(await taken(bus, stream, 3)) == [b"0", b"1", b"2"]
    await asyncio.sleep(4 * SOON)
    await part.stop()
    info = await bus.api(f"STREAM.INFO.{stream}")
    assert info["state"]["messages"] == 0
    assert info["state"]["last_seq"] == 5


async def test_without_it_they_would_never_come(bus: Bus, stream: str) -> None:
    await lose(bus, stream, 3)
    subscription = await bus.js.pull_subscribe_bind("a", stream)
    with pytest.raises(NothingCame):
        await subscription.fetch(1, timeout=0.5)


async def test_what_waits_or_is_in_hand_is_left_alone(bus: Bus, stream: str) -> None:
    subscription = await bus.js.pull_subscribe_bind("a", stream)
    [first, second] = await subscription.fetch(2, timeout=30)
    await second.ack_sync()
    part = stranded(bus, stream, every=SOON, soon=SOON)
    await part.start()
    await asyncio.sleep(6 * SOON)
    await part.stop()
    assert part.problem() is None
    await first.ack_sync()
    assert (await bus.api(f"STREAM.INFO.{stream}"))["state"]["last_seq"] == 3
    assert await taken(bus, stream, 1) == [b"2"]


async def test_two_instances_put_a_message_back_once(bus: Bus, stream: str) -> None:
    await lose(bus, stream, 1)
    parts = [stranded(bus, stream, "a", every=SOON, soon=SOON) for _ in range(2)]
    await asyncio.gather(*(part.start() for part in parts))
    assert sorted(await taken(bus, stream, 3)) == [b"0", b"1", b"2"]
    await asyncio.gather(*(part.stop() for part in parts))
    assert (await bus.api(f"STREAM.INFO.{stream}"))["state"]["last_seq"] == 4


async def test_another_consumers_messages_are_not_its_own(bus: Bus, stream: str) -> None:
    await lose(bus, stream, 3)
    part = stranded(bus, stream, "another", every=SOON, soon=SOON)
    await part.start()
    await asyncio.sleep(6 * SOON)
    await part.stop()
    assert (await bus.api(f"STREAM.INFO.{stream}"))["state"]["last_seq"] == 3


async def test_after_a_lost_connection_it_is_looked_for_soon(
    bus: Bus, cut_bus: Bus, proxy: Proxy, stream: str
) -> None:
    part = stranded(cut_bus, stream, every=3600, soon=SOON)
    await part.start()
    await asyncio.sleep(8 * SOON)  # the looks after its start are over
    await lose(bus, stream, 3)
    await asyncio.sleep(4 * SOON)
    assert (await bus.api(f"STREAM.INFO.{stream}"))["state"]["last_seq"] == 3
    proxy.cut()
    assert sorted(await taken(bus, stream, 3)) == [b"0", b"1", b"2"]
    await part.stop()
