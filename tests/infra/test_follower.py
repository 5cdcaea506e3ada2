"""Following a stream on a real server: in order, whole, and again after every kind of break."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock.infra.bus import Bus
from penstock.infra.follower import MOST, PULL, Followed, Follower, delivery
from penstock.infra.nats_server import EmbeddedNats
from penstock.infra.streams import event_stream
from support.proxy import Proxy

# Seconds. It takes less than two; a busy machine may need longer. The client library's own
# ordered consumer needs some sixteen.
HEALED = 6.0


def following(bus: Bus, after: int = 0) -> Follower:
    stream = bus.subjects.event_stream("progress")
    return Follower(bus, stream, bus.subjects.events("progress"), after)


async def put(bus: Bus, first: int, last: int) -> None:
    subjects = (bus.subjects.event("progress", f"id-{n % 7}") for n in range(first, last + 1))
    await asyncio.gather(*(bus.publish_acked(s, b"%d" % n) for n, s in enumerate(subjects, first)))


async def take(follower: Follower, until: int) -> list[Followed]:
    taken: list[Followed] = []
    while not taken or taken[-1].sequence < until:
        taken += await follower.batch()
    return taken


def sequences(messages: list[Followed]) -> list[int]:
    return [message.sequence for message in messages]


@pytest.fixture
async def follower(bus: Bus) -> AsyncIterator[Follower]:
    async with following(bus) as running:
        yield running


async def test_everything_comes_once_in_order(bus: Bus, follower: Follower) -> None:
    await put(bus, 1, 3500)
    async with asyncio.timeout(30):
        messages = await take(follower, 3500)
    assert sequences(messages) == list(range(1, 3501))
    assert sorted(int(m.data) for m in messages) == list(range(1, 3501))
    assert messages[0].subject.startswith(bus.subjects.event("progress", "id-"))


async def test_what_nobody_takes_goes_on_coming_until_it_is_much(
    bus: Bus, follower: Follower
) -> None:
    await put(bus, 1, MOST + 4 * PULL)
    async with asyncio.timeout(30):
        taken = await follower.batch()
        while len(follower._buffer) < MOST:
            await asyncio.sleep(0.01)
        await bus.nc.flush()  # what was asked for is here
        assert len(follower._buffer) <= MOST + 2 * PULL
        taken += await take(follower, MOST + 4 * PULL)
    assert sequences(taken) == list(range(1, MOST + 4 * PULL + 1))


async def test_what_comes_while_following_is_given_as_it_comes(
    bus: Bus, follower: Follower
) -> None:
    for number in range(1, 6):
        await put(bus, number, number)
        async with asyncio.timeout(60):
            assert sequences(await take(follower, number)) == [number]


async def test_it_begins_behind_the_sequence_it_is_told(bus: Bus) -> None:
    await put(bus, 1, 10)
    async with following(bus, after=7) as follower, asyncio.timeout(60):
        assert sequences(await take(follower, 10)) == [8, 9, 10]
        assert follower.sequence == 10


async def test_each_message_tells_how_many_stand_behind_it(bus: Bus) -> None:
    await put(bus, 1, 5)
    async with following(bus) as follower, asyncio.timeout(60):
        assert [m.pending for m in await take(follower, 5)] == [4, 3, 2, 1, 0]


async def test_only_what_its_subject_matches_comes(bus: Bus) -> None:
    await put(bus, 1, 14)
    stream = bus.subjects.event_stream("progress")
    subject = bus.subjects.event("progress", "id-3")
    async with Follower(bus, stream, subject) as follower, asyncio.timeout(60):
        assert [int(m.data) for m in await take(follower, 10)] == [3, 10]


async def test_more_bytes_than_one_pull_brings_come_all_the_same(
    bus: Bus, follower: Follower
) -> None:
    large = bytes(6 * 1024 * 1024)
    for _ in range(14):
        await bus.publish_acked(bus.subjects.event("progress", "large"), large)
    async with asyncio.timeout(30):
        assert sequences(await take(follower, 14)) == list(range(1, 15))


async def test_a_slow_reader_loses_nothing(bus: Bus, follower: Follower) -> None:
    await put(bus, 1, 2500)
    async with asyncio.timeout(30):
        seen = await follower.batch()
        await asyncio.sleep(1.5)  # longer than a silence may be
        seen += await take(follower, 2500)
    assert sequences(seen) == list(range(1, 2501))


async def test_a_stream_that_does_not_exist_yet_is_waited_for(nats_url: str, prefix: str) -> None:
    async with await Bus.connect(nats_url, prefix=prefix) as bus, following(bus) as follower:
        waiting = asyncio.create_task(take(follower, 1))
        await asyncio.sleep(0.3)
        config = event_stream(bus.subjects, "progress")
        await bus.api(f"STREAM.CREATE.{config['name']}", config)
        await put(bus, 1, 1)
        async with asyncio.timeout(HEALED):
            assert sequences(await waiting) == [1]


async def test_it_goes_on_after_its_consumer_was_deleted_on_the_server(
    bus: Bus, follower: Follower
) -> None:
    await put(bus, 1, 10)
    seen = await take(follower, 10)
    stream = bus.subjects.event_stream("progress")
    for name in (await bus.api(f"CONSUMER.NAMES.{stream}"))["consumers"]:
        await bus.api(f"CONSUMER.DELETE.{stream}.{name}")
    await put(bus, 11, 20)
    async with asyncio.timeout(HEALED):
        seen += await take(follower, 20)
    assert sequences(seen) == list(range(1, 21))


async def test_it_goes_on_after_a_lost_connection(bus: Bus, cut_bus: Bus, proxy: Proxy) -> None:
    async with following(cut_bus) as follower:
        await put(bus, 1, 10)
        seen = await take(follower, 10)
        proxy.cut()
        await put(bus, 11, 20)
        async with asyncio.timeout(HEALED):
            seen += await take(follower, 20)
    assert sequences(seen) == list(range(1, 21))


async def test_a_delivery_lost_with_the_connection_comes_again(
    bus: Bus, cut_bus: Bus, proxy: Proxy
) -> None:
    async with following(cut_bus) as follower:
        await put(bus, 1, 10)
        seen = await take(follower, 10)
        proxy.lose, proxy.cut_then = b"$JS.ACK", True
        waiting = asyncio.create_task(take(follower, 11))
        await put(bus, 11, 11)
        async with asyncio.timeout(HEALED):
            seen += await waiting
    assert sequences(seen) == list(range(1, 12))


@pytest.mark.parametrize("more", ["another follows", "none follows"])
async def test_a_delivery_that_was_lost_on_the_way_is_noticed(
    bus: Bus, cut_bus: Bus, proxy: Proxy, more: str
) -> None:
    async with following(cut_bus) as follower:
        await put(bus, 1, 10)
        seen = await take(follower, 10)
        proxy.lose = b"$JS.ACK"
        last = 12 if more == "another follows" else 11
        waiting = asyncio.create_task(take(follower, last))
        await put(bus, 11, 11)
        await proxy.lost.wait()
        await put(bus, 12, last)
        async with asyncio.timeout(HEALED):
            seen += await waiting
    assert sequences(seen) == list(range(1, last + 1))


async def test_it_goes_on_after_the_server_was_killed_and_restarted(
    tmp_path: Path, prefix: str
) -> None:
    async with (
        EmbeddedNats(tmp_path, durability="os") as server,
        await Bus.connect(server.url, prefix=prefix) as bus,
        following(bus) as follower,
    ):
        config = event_stream(bus.subjects, "progress")
        await bus.api(f"STREAM.CREATE.{config['name']}", config)
        await put(bus, 1, 100)
        seen = await take(follower, 100)
        waiting = asyncio.create_task(take(follower, 200))
        os.kill(server.pid, signal.SIGKILL)
        await until_answered(bus)
        await put(bus, 101, 200)
        async with asyncio.timeout(HEALED):
            seen += await waiting
    assert sequences(seen) == list(range(1, 201))


async def until_answered(bus: Bus) -> None:
    async with asyncio.timeout(30):
        while bus.connections == 1 or not await answers(bus):
            await asyncio.sleep(0.05)


async def answers(bus: Bus) -> bool:
    stream = bus.subjects.event_stream("progress")
    found = await asyncio.gather(bus.api(f"STREAM.INFO.{stream}"), return_exceptions=True)
    return isinstance(found[0], dict)


@pytest.mark.parametrize(
    "reply",
    [
        "$JS.ACK.STREAM.consumer.1.1200.17.1795426659671264610.9",
        "$JS.ACK.domain.account.STREAM.consumer.1.1200.17.1795426659671264610.9.token",
    ],
)
def test_a_deliverys_reply_subject_is_read_in_its_old_and_new_form(reply: str) -> None:
    assert delivery(reply) == (1200, 17, 9)
