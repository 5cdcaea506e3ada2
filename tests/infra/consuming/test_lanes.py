"""Taking work: by rank, within what the hand holds, and again after every kind of break."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable

import pytest
from nats.aio.msg import Msg

from penstock.infra.bus import Bus
from penstock.infra.consuming.consumers import ACK, NAK, Delivery, delivery
from penstock.infra.consuming.lanes import EVERY, SILENCE, Lane, Lanes, allot
from penstock.infra.nats_server import EmbeddedNats
from support.proxy import Proxy

# Seconds within which a break is noticed and healed, on a busy machine.
HEALED = SILENCE + 6
NewHand = Callable[..., "Hand"]


class Hand:
    """Lanes of priorities 9, 5 and 0, and what they took."""

    def __init__(self, bus: Bus, capacity: int, lanes: int = 3) -> None:
        self.taken: list[tuple[str, str]] = []
        self.news = asyncio.Event()
        self.bus = bus
        self.lanes = Lanes(
            bus,
            bus.subjects.stream("work"),
            [Lane(f"q-{p}", bus.subjects.work_of("q", p), p) for p in (0, 5, 9)[-lanes:]],
            capacity=capacity,
            ack_wait=5,
            take=self.take,
        )

    async def take(self, msg: Msg, _: Delivery) -> None:
        self.taken.append((msg.data.decode(), msg.reply))
        self.news.set()

    async def until(self, count: int, seconds: float = 30) -> list[str]:
        """What was taken, once there are `count`."""
        async with asyncio.timeout(seconds):
            while len(self.taken) < count:
                self.news.clear()
                await self.news.wait()
        return [body for body, _ in self.taken]

    async def finish(self, answer: bytes = ACK) -> None:
        """Answer the first of those in hand."""
        _, reply = self.taken.pop(0)
        await self.bus.publish(reply, answer)
        self.lanes.done()


async def make_stream(bus: Bus) -> None:
    name = bus.subjects.stream("work")
    config = {
        "name": name,
        "subjects": [f"{bus.subjects.prefix}.work.>"],
        "retention": "workqueue",
    }
    await bus.api(f"STREAM.CREATE.{name}", config)


async def put(bus: Bus, *jobs: str, priority: int = 5) -> None:
    for job in jobs:
        await bus.publish_acked(bus.subjects.work("q", priority, job), job.encode())


@pytest.fixture
async def hands(bus: Bus) -> AsyncIterator[NewHand]:
    """Makes hands on a work stream, and stops them with the test."""
    await make_stream(bus)
    made: list[Hand] = []

    def make(capacity: int, on: Bus = bus) -> Hand:
        made.append(Hand(on, capacity))
        return made[-1]

    yield make
    for hand in made:
        await hand.lanes.stop()


@pytest.mark.parametrize(
    ("room", "ranks", "turn", "places"),
    [
        (3, [5], 0, [3]),
        (1, [9, 5, 0], 0, [1, 0, 0]),
        (1, [9, 5, 0], 7, [0, 1, 0]),
        (1, [9, 5, 0], 15, [0, 0, 1]),
        (16, [9, 5, 0], 0, [14, 1, 1]),
        (8, [9, 9], 0, [4, 4]),
        (8, [9, 9, 0], 0, [4, 3, 1]),
    ],
)
def test_places_go_to_the_highest_but_each_eighth_to_the_others(
    room: int, ranks: list[int], turn: int, places: list[int]
) -> None:
    assert allot(room, ranks, turn) == places


async def test_higher_ranks_come_first_and_the_lowest_still_comes(bus: Bus, hands: NewHand) -> None:
    await put(bus, "low", priority=0)
    await put(bus, *(f"high{n}" for n in range(2 * EVERY)), priority=9)
    hand = hands(1)
    await hand.lanes.start()
    order = []
    for _ in range(2 * EVERY + 1):
        order += await hand.until(1)
        await hand.finish()
    assert order.index("low") == EVERY - 1
    assert [job for job in order if job != "low"] == [f"high{n}" for n in range(2 * EVERY)]


async def test_no_more_is_taken_than_the_hand_holds_and_the_rest_stays_for_others(
    bus: Bus, hands: NewHand
) -> None:
    first, second = hands(2), hands(3)
    await first.lanes.start()
    for priority in (9, 5, 0):  # more lanes have news at a time than there is room
        await put(bus, f"a{priority}", f"b{priority}", priority=priority)
    await first.until(2)
    await second.lanes.start()
    await second.until(3)
    assert (first.lanes.in_hand, second.lanes.in_hand) == (2, 3)
    everything = {body for hand in (first, second) for body, _ in hand.taken}
    await first.finish()
    await first.until(2)
    everything |= {body for body, _ in first.taken}
    assert everything == {"a9", "b9", "a5", "b5", "a0", "b0"}


async def test_what_is_given_back_comes_again(bus: Bus, hands: NewHand) -> None:
    hand = hands(1)
    await hand.lanes.start()
    await put(bus, "a")
    await hand.until(1)
    await hand.finish(NAK)
    [(body, reply)] = (await hand.until(1), hand.taken)[1]
    assert (body, delivery(reply).count) == ("a", 2)


async def test_a_deleted_consumer_is_made_again(bus: Bus, hands: NewHand) -> None:
    hand = hands(1)
    await hand.lanes.start()
    await put(bus, "before")
    await hand.until(1)
    await hand.finish()
    for priority in (9, 5, 0):
        await bus.api(f"CONSUMER.DELETE.{bus.subjects.stream('work')}.q-{priority}")
    await put(bus, "after")
    assert await hand.until(1, HEALED) == ["after"]
    assert hand.lanes.problem() is None


async def test_a_lost_connection_is_taken_up_again(
    bus: Bus, hands: NewHand, cut_bus: Bus, proxy: Proxy
) -> None:
    hand = hands(1, cut_bus)
    await hand.lanes.start()
    await put(bus, "before")
    await hand.until(1)
    await hand.finish()
    proxy.cut()
    await put(bus, "after")
    assert await hand.until(1, HEALED) == ["after"]


async def test_a_killed_server_is_waited_for(fresh_nats: EmbeddedNats, prefix: str) -> None:
    async with await Bus.connect(fresh_nats.url, prefix=prefix) as own:
        await make_stream(own)
        hand = Hand(own, 1)
        await hand.lanes.start()
        os.kill(fresh_nats.pid, signal.SIGKILL)
        async with asyncio.timeout(60):
            while own.connections < 2:
                await asyncio.sleep(0.02)
        await put(own, "after")
        assert await hand.until(1, HEALED) == ["after"]
        await hand.lanes.stop()


async def test_a_stream_that_goes_away_is_a_problem_until_it_is_back(
    bus: Bus, hands: NewHand
) -> None:
    hand = hands(1)
    await hand.lanes.start()
    await bus.api(f"STREAM.DELETE.{bus.subjects.stream('work')}")
    async with asyncio.timeout(HEALED):
        while (problem := hand.lanes.problem()) is None:
            await asyncio.sleep(0.02)
    assert "cannot take work" in problem
    await make_stream(bus)
    await put(bus, "back")
    assert await hand.until(1, HEALED) == ["back"]
    async with asyncio.timeout(HEALED):
        while hand.lanes.problem() is not None:
            await asyncio.sleep(0.02)


async def test_stopping_gives_back_what_still_arrives(bus: Bus, hands: NewHand) -> None:
    leaving, staying = hands(5), hands(50)
    await leaving.lanes.start()
    await put(bus, *(f"j{n}" for n in range(5)))
    await leaving.lanes.stop()
    kept = len(leaving.taken)
    await staying.lanes.start()
    assert len(await staying.until(5 - kept)) == 5 - kept


@pytest.mark.parametrize("ticks", range(6))
async def test_stopping_ends_also_when_a_message_leaves_at_that_moment(
    hands: NewHand, ticks: int
) -> None:
    hand = hands(1)
    await hand.lanes.start()
    await asyncio.sleep(0.2)  # until it waits; there is nothing to see from outside
    hand.lanes.in_hand += 1
    hand.lanes.done()
    for _ in range(ticks):
        await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await hand.lanes.stop()
