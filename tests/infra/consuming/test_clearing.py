"""What consumers have acknowledged goes, and nothing else does, also when a server was killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from nats.aio.msg import Msg
from nats.js.client import JetStreamContext

from penstock.infra.bus import Bus, Stored
from penstock.infra.consuming.clearing import clearing
from penstock.infra.consuming.consumers import NAK, ensure_consumer
from penstock.infra.repeated import Repeated
from support.proxy import Proxy

EVERY = 0.05
QUEUE = "WORK_TO_CLEAR"
COUNT = 6


class Done:
    """What is settled, by its content, and what was asked about."""

    def __init__(self) -> None:
        self.bodies: set[bytes] = set()
        self.asked: set[bytes] = set()

    async def __call__(self, messages: Sequence[Stored]) -> set[int]:
        self.asked |= {message.data for message in messages}
        return {message.sequence for message in messages if message.data in self.bodies}


@pytest.fixture
async def stream(bus: Bus, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A stream with a consumer `a` and six messages for it."""
    name = bus.subjects.stream(QUEUE)
    retention = getattr(request, "param", "limits")
    subjects = [f"{bus.subjects.prefix}.clear.>"]
    config = {"name": name, "subjects": subjects, "retention": retention, "allow_direct": True}
    await bus.api(f"STREAM.CREATE.{name}", config)
    await ensure_consumer(bus, name, "a", "*.clear.a.*", 30)
    await more(bus, 0, COUNT)
    yield name
    await bus.api(f"STREAM.DELETE.{name}")


@pytest.fixture
async def hand(bus: Bus, stream: str) -> JetStreamContext.PullSubscription:
    """What takes the messages."""
    return await bus.js.pull_subscribe_bind("a", stream)


async def more(bus: Bus, first: int, count: int) -> None:
    for number in range(first, first + count):
        await bus.publish_acked(f"{bus.subjects.prefix}.clear.a.{number}", b"%d" % number)


async def acknowledge(messages: Sequence[Msg]) -> None:
    await asyncio.gather(*(message.ack_sync() for message in messages))


async def left(bus: Bus, stream: str) -> list[bytes]:
    """What the stream holds."""
    found = await bus.direct_get(stream, {"seq": 1, "next_by_subj": ">", "batch": 100})
    return [message.data for message in found]


async def until(bus: Bus, stream: str, *bodies: bytes) -> None:
    """Wait until it holds just these."""
    async with asyncio.timeout(60):
        while (found := await left(bus, stream)) != list(bodies):
            assert set(bodies) <= set(found), "something that was to stay is gone"
            await asyncio.sleep(EVERY)


async def turns(part: Repeated, count: int = 6) -> None:
    await asyncio.sleep(count * EVERY)
    assert part.problem() is None


async def test_what_is_acknowledged_goes_and_the_rest_stays(
    bus: Bus, stream: str, hand: JetStreamContext.PullSubscription
) -> None:
    part = clearing(bus, stream, done := Done(), every=EVERY, latest=0.0)
    await part.start()
    await turns(part)
    messages = await hand.fetch(4, timeout=30)
    await acknowledge([*messages[:2], messages[3]])
    [last] = await hand.fetch(1, timeout=30)
    await until(bus, stream, b"2", b"3", b"4", b"5")
    await turns(part)
    assert await left(bus, stream) == [b"2", b"3", b"4", b"5"], "there is one before it"
    await acknowledge([messages[2], last])
    await until(bus, stream, b"5")
    assert not done.asked, "what is in no doubt is not looked at"
    await part.stop()


@pytest.mark.parametrize("filtered", ["*.clear.a.*", "*.clear.a.>"])
async def test_what_was_given_back_is_delivered_anew_though_others_are_removed(
    bus: Bus, stream: str, hand: JetStreamContext.PullSubscription, filtered: str
) -> None:
    await ensure_consumer(bus, stream, "a", filtered, 30)
    part = clearing(bus, stream, Done(), every=EVERY, latest=0.0)
    await part.start()
    await turns(part)
    messages = await hand.fetch(4, timeout=30)
    for message in messages[1:]:
        await bus.request(message.reply, NAK)  # answered once it is given back
    await acknowledge(messages[:1])
    await until(bus, stream, b"1", b"2", b"3", b"4", b"5")
    again = [message.data for message in await hand.fetch(3, timeout=30)]
    assert sorted(again) == [b"1", b"2", b"3"]
    await part.stop()


async def test_what_was_taken_before_it_began_is_looked_at(
    bus: Bus, stream: str, hand: JetStreamContext.PullSubscription
) -> None:
    done = Done()
    done.bodies |= {b"0", b"1"}
    messages = await hand.fetch(2, timeout=30)
    await acknowledge(messages)
    part = clearing(bus, stream, done, every=EVERY, latest=0.0)
    await part.start()
    await until(bus, stream, b"2", b"3", b"4", b"5")
    assert done.asked == {b"0", b"1"}
    await part.stop()


async def test_what_the_server_lost_sight_of_comes_again(
    bus: Bus, stream: str, hand: JetStreamContext.PullSubscription
) -> None:
    done = Done()
    done.bodies |= {b"0", b"2"}
    await acknowledge(await hand.fetch(1, timeout=30))
    await bus.api(f"CONSUMER.RESET.{stream}.a", {"seq": 4})  # takes three for acknowledged
    parts = [clearing(bus, stream, done, every=EVERY, latest=0.0) for _ in range(2)]
    await asyncio.gather(*(part.start() for part in parts))
    found: list[bytes] = []
    async with asyncio.timeout(60):
        while len(found) < 4:
            for message in await hand.fetch(1, timeout=10):
                found.append(message.data)
                done.bodies.add(message.data)
                await message.ack_sync()
    assert sorted(found) == [b"1", b"3", b"4", b"5"]
    await until(bus, stream)
    await asyncio.gather(*(part.stop() for part in parts))
    assert (await bus.api(f"STREAM.INFO.{stream}"))["state"]["last_seq"] == COUNT + 1


async def test_one_that_takes_long_does_not_keep_the_others(
    bus: Bus, stream: str, hand: JetStreamContext.PullSubscription
) -> None:
    part = clearing(bus, stream, done := Done(), every=EVERY, latest=0.0, most=4)
    await part.start()
    await turns(part)
    [long] = await hand.fetch(1, timeout=30)
    await acknowledge(await hand.fetch(3, timeout=30))
    done.bodies |= {b"1", b"2", b"3"}
    await turns(part)
    assert len(await left(bus, stream)) == COUNT, "so few may stay"
    done.bodies.add(b"4")
    await acknowledge(await hand.fetch(1, timeout=30))
    await until(bus, stream, b"0", b"5")
    asked = len(done.asked)
    await more(bus, COUNT, 1)
    await turns(part)
    assert len(done.asked) == asked, "it does not look again and again"
    await long.ack_sync()
    await until(bus, stream, b"5", b"6")
    await part.stop()


async def test_a_new_connection_brings_doubt(
    bus: Bus, cut_bus: Bus, proxy: Proxy, stream: str, hand: JetStreamContext.PullSubscription
) -> None:
    part = clearing(cut_bus, stream, done := Done(), every=EVERY, latest=0.0)
    await part.start()
    await turns(part)
    messages = await hand.fetch(2, timeout=30)
    proxy.cut()
    await turns(part)
    await acknowledge(messages)
    done.bodies |= {b"0", b"1"}
    await until(bus, stream, b"2", b"3", b"4", b"5")
    assert done.asked == {b"0", b"1"}
    await part.stop()


@pytest.mark.parametrize("stream", ["workqueue"], indirect=True)
async def test_a_work_queue_is_left_to_its_server(
    bus: Bus, stream: str, hand: JetStreamContext.PullSubscription
) -> None:
    await bus.api(f"CONSUMER.RESET.{stream}.a", {"seq": 4})
    part = clearing(bus, stream, done := Done(), every=EVERY, latest=0.0)
    await part.start()
    await turns(part)
    assert len(await left(bus, stream)) == COUNT
    assert not done.asked
    await part.stop()


async def test_only_one_consumers_are_removed_where_it_is_named(
    bus: Bus, stream: str, hand: JetStreamContext.PullSubscription
) -> None:
    await ensure_consumer(bus, stream, "b", "*.clear.b.>", 30)
    other = await bus.js.pull_subscribe_bind("b", stream)
    await bus.publish_acked(f"{bus.subjects.prefix}.clear.b.deep.down", b"b")
    await acknowledge([*await hand.fetch(COUNT, timeout=5), *await other.fetch(1, timeout=5)])
    done = Done()
    done.bodies |= {b"%d" % number for number in range(COUNT)} | {b"b"}
    parts = [clearing(bus, stream, done, consumer=name, every=EVERY, latest=0.0) for name in "ba"]
    await parts[0].start()
    await until(bus, stream, *(b"%d" % number for number in range(COUNT)))
    assert done.asked == {b"b"}
    await parts[1].start()
    await until(bus, stream)
    await asyncio.gather(*(part.stop() for part in parts))


async def test_of_those_behind_one_that_takes_long_another_may_tell(
    bus: Bus, stream: str, hand: JetStreamContext.PullSubscription
) -> None:
    settled, behind = Done(), Done()
    part = clearing(bus, stream, settled, behind=behind, every=EVERY, latest=0.0, most=4)
    await part.start()
    await turns(part)
    [long, _, *others] = await hand.fetch(COUNT, timeout=5)
    behind.bodies |= {message.data for message in others}
    await acknowledge(others)
    await until(bus, stream, b"0", b"1")
    assert not settled.asked
    await long.ack_sync()
    await until(bus, stream, b"1")
    await part.stop()
