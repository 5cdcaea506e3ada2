"""Events are worked off at least once, whatever breaks in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from penstock.contracts.dead import Letters
from penstock.contracts.envelope import Envelope, wrap
from penstock.contracts.errors import InvalidMessage, Unavailable
from penstock.contracts.progress import ProgressCreated
from penstock.infra.bus import Bus
from penstock.infra.consuming import event_consumer as module
from penstock.infra.consuming.event_consumer import EventConsumer
from penstock.infra.consuming.in_hand import TAKEOVER
from penstock.infra.control import Control
from penstock.infra.dead_letters.redriving import Redriving
from penstock.infra.event_log import JetStreamEventLog
from penstock.infra.streams import provision
from support.events import event as numbered

SERVICE = "progress"
Handle = Callable[[Envelope], Awaitable[None]]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY", 0.05)
    monkeypatch.setattr(module, "PULL", 0.5)


@pytest.fixture
async def bus(nats_url: str, prefix: str) -> AsyncIterator[Bus]:
    async with await Bus.connect(nats_url, prefix=prefix) as bus:
        await provision(bus)
        yield bus


@asynccontextmanager
async def consuming(
    bus: Bus, handle: Handle, *, at_once: int = 4, grace: float = 5, takeover: float = TAKEOVER
) -> AsyncIterator[EventConsumer]:
    consumer = EventConsumer(
        bus, SERVICE, "work", handle, at_once=at_once, grace=grace, takeover=takeover
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def append(bus: Bus, *ids: str) -> None:
    log = JetStreamEventLog(bus, SERVICE, durability="os")
    for id in ids:
        event = wrap(ProgressCreated(), id=id, subject=id, time=datetime.now(UTC), correlationid=id)
        await log.append([event], expected=0)


class Seen:
    """Remembers the events that came, and lets a test wait for how many."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self._news = asyncio.Condition()

    async def add(self, event: Envelope) -> int:
        async with self._news:
            self.ids.append(event.id)
            self._news.notify_all()
            return self.ids.count(event.id)

    async def count(self, count: int) -> None:
        async with asyncio.timeout(60), self._news:
            await self._news.wait_for(lambda: len(self.ids) >= count)


async def acknowledged(bus: Bus) -> None:
    """Wait until nothing is left to do."""
    path = f"CONSUMER.INFO.{bus.subjects.event_stream(SERVICE)}.work"
    async with asyncio.timeout(60):
        while True:
            info = await bus.api(path)
            if not info["num_pending"] and not info["num_ack_pending"]:
                return
            await asyncio.sleep(0.02)


async def test_events_from_before_and_after_the_start_are_handled_once(bus: Bus) -> None:
    seen = Seen()

    async def handle(event: Envelope) -> None:
        await seen.add(event)

    await append(bus, "a", "b")
    async with consuming(bus, handle):
        await append(bus, "c")
        await seen.count(3)
        await acknowledged(bus)
    async with consuming(bus, handle):
        await append(bus, "d")
        await seen.count(4)
    assert sorted(seen.ids) == ["a", "b", "c", "d"]


async def test_no_more_than_so_many_are_in_hand_at_once(bus: Bus) -> None:
    seen, now, most = Seen(), 0, 0

    async def handle(event: Envelope) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)
        now -= 1
        await seen.add(event)

    await append(bus, *(f"e{n}" for n in range(12)))
    async with consuming(bus, handle, at_once=3):
        await seen.count(12)
    assert most == 3


async def test_an_event_comes_again_until_what_it_needs_is_back(bus: Bus) -> None:
    seen = Seen()

    async def handle(event: Envelope) -> None:
        if await seen.add(event) < module.TRIES + 2:
            raise Unavailable("away")

    await append(bus, "a")
    async with consuming(bus, handle):
        await seen.count(module.TRIES + 2)
        await acknowledged(bus)
    assert await dead_letters(bus) == 0


async def test_what_nobody_foresaw_is_tried_again_and_then_kept_as_a_dead_letter(
    bus: Bus,
) -> None:
    seen = Seen()

    async def handle(event: Envelope) -> None:
        await seen.add(event)
        raise ZeroDivisionError

    await append(bus, "a")
    async with consuming(bus, handle):
        await seen.count(module.TRIES)
        await acknowledged(bus)
    assert await dead_letters(bus) == 1


async def test_an_event_that_cannot_be_read_is_kept_as_a_dead_letter_at_once(bus: Bus) -> None:
    seen = Seen()

    async def handle(event: Envelope) -> None:
        await seen.add(event)
        raise InvalidMessage("no")

    await append(bus, "a")
    async with consuming(bus, handle):
        await acknowledged(bus)
    assert seen.ids == ["a"]
    assert await dead_letters(bus) == 1


async def test_what_is_in_hand_when_stopped_is_handed_to_the_next(bus: Bus) -> None:
    seen, never = Seen(), asyncio.Event()

    async def stuck(event: Envelope) -> None:
        await seen.add(event)
        await never.wait()

    async def handle(event: Envelope) -> None:
        await seen.add(event)

    await append(bus, "a")
    async with consuming(bus, stuck, grace=0.1):
        await seen.count(1)
    async with asyncio.timeout(TAKEOVER / 2), consuming(bus, handle):
        await seen.count(2)
        await acknowledged(bus)


async def test_work_that_takes_longer_than_the_wait_stays_with_its_instance(bus: Bus) -> None:
    seen = Seen()

    async def handle(event: Envelope) -> None:
        await seen.add(event)
        await asyncio.sleep(1.5)

    await append(bus, "a")
    async with consuming(bus, handle, takeover=0.6), consuming(bus, handle, takeover=0.6):
        await seen.count(1)
        await acknowledged(bus)
    assert seen.ids == ["a"]


async def test_stopping_ends_at_whatever_moment_an_event_comes(bus: Bus) -> None:
    seen = Seen()

    async def handle(event: Envelope) -> None:
        await seen.add(event)

    for n in range(40):
        async with asyncio.timeout(30), consuming(bus, handle, takeover=1):
            appending = asyncio.create_task(append(bus, f"e{n}"))
            await asyncio.sleep(n / 10_000)
        await appending
    async with consuming(bus, handle, takeover=1):
        await acknowledged(bus)
    assert {f"e{n}" for n in range(40)} == set(seen.ids)


async def test_a_consumer_that_was_deleted_is_made_again(bus: Bus) -> None:
    seen = Seen()

    async def handle(event: Envelope) -> None:
        await seen.add(event)

    async with consuming(bus, handle) as consumer:
        await append(bus, "a")
        await seen.count(1)
        await bus.api(f"CONSUMER.DELETE.{bus.subjects.event_stream(SERVICE)}.work")
        await append(bus, "b")
        await seen.count(3)  # it begins with the first event again
        assert consumer.problem() is None
    assert sorted(seen.ids) == ["a", "a", "b"]


async def append_to(bus: Bus, id: str, first: int, last: int) -> None:
    log = JetStreamEventLog(bus, SERVICE, durability="os")
    expected = (await log.load(id)).sequence
    for version in range(first, last + 1):
        one = [numbered(id, version, by=f"{id}{version}")]
        expected = (await log.append(one, expected=expected)).sequence


async def test_an_event_that_fails_holds_back_those_behind_it_and_no_other_aggregate(
    bus: Bus,
) -> None:
    seen = Seen()

    async def handle(event: Envelope) -> None:
        times = await seen.add(event)
        if event.id == "a1:1" and times < 3:
            raise ZeroDivisionError

    await append_to(bus, "a", 1, 3)
    await append_to(bus, "b", 1, 2)
    async with consuming(bus, handle):
        await acknowledged(bus)
    ids = [id.partition(":")[0] for id in seen.ids]
    assert [id for id in ids if id[0] == "a"] == ["a1", "a1", "a1", "a2", "a3"]
    assert [id for id in ids if id[0] == "b"] == ["b1", "b2"]
    assert ids.index("b2") < ids.index("a2")


async def test_however_many_events_wait_behind_one_there_is_room_for_other_aggregates(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAITING", 4)
    seen, go = Seen(), asyncio.Event()

    async def handle(event: Envelope) -> None:
        if event.id == "a1:1":
            await go.wait()
        await seen.add(event)

    await append_to(bus, "a", 1, 12)
    await append_to(bus, "b", 1, 2)
    async with consuming(bus, handle, at_once=2):
        await seen.count(2)
        assert seen.ids == ["b1:1", "b2:2"]
        go.set()
        await acknowledged(bus)
    assert seen.ids[2:] == [f"a{n}:{n}" for n in range(1, 13)]


async def test_several_instances_keep_the_order_of_each_aggregate(bus: Bus) -> None:
    seen: list[tuple[str, int]] = []
    now: set[str] = set()

    async def handle(event: Envelope) -> None:
        assert event.subject not in now, "two of one aggregate at once"
        now.add(event.subject)
        await asyncio.sleep(event.version % 3 / 100)
        now.remove(event.subject)
        seen.append((event.subject, event.version))

    aggregates = [f"x{n}" for n in range(6)]
    for first in (1, 4):
        for id in aggregates:
            await append_to(bus, id, first, first + 2)
    async with consuming(bus, handle), consuming(bus, handle), consuming(bus, handle):
        await acknowledged(bus)
    assert await dead_letters(bus) == 0
    for id in aggregates:
        assert [version for one, version in seen if one == id] == [1, 2, 3, 4, 5, 6]


async def test_those_behind_an_event_that_was_given_up_go_on_and_it_can_be_redone(
    bus: Bus,
) -> None:
    seen, broken = Seen(), True

    async def handle(event: Envelope) -> None:
        await seen.add(event)
        if event.version == 1 and broken:
            raise InvalidMessage("no")

    await append_to(bus, "a", 1, 2)
    async with consuming(bus, handle) as consumer:
        await acknowledged(bus)
        assert seen.ids == ["a1:1", "a2:2"]
        control = Control(bus, SERVICE, consumer.verbs)
        await control.start()
        redriving = Redriving(bus)
        [[again]] = [page async for page in redriving.redrive_all(Letters(kind="work"))]
        assert (again.left, await dead_letters(bus)) == ("no", 1)
        broken = False
        [[again]] = [page async for page in redriving.redrive_all(Letters(kind="work"))]
        assert (again.left, await dead_letters(bus)) == (None, 0)
        await control.stop()
    assert seen.ids == ["a1:1", "a2:2", "a1:1", "a1:1"]


async def test_a_redrive_is_done_by_one_of_several_instances(bus: Bus) -> None:
    seen = Seen()

    async def handle(event: Envelope) -> None:
        if await seen.add(event) == 1:
            raise InvalidMessage("no")

    await append_to(bus, "a", 1, 1)
    async with consuming(bus, handle) as one, consuming(bus, handle) as two:
        await acknowledged(bus)
        controls = [Control(bus, SERVICE, consumer.verbs) for consumer in (one, two)]
        for control in controls:
            await control.start()
        pages = [page async for page in Redriving(bus).redrive_all(Letters())]
        assert [settled.left for page in pages for settled in page] == [None]
        for control in controls:
            await control.stop()
    assert seen.ids == ["a1:1", "a1:1"]


async def dead_letters(bus: Bus) -> int:
    found = await bus.api(f"STREAM.INFO.{bus.subjects.stream('dead')}")
    count: int = found["state"]["messages"]
    return count
