"""Timers on a real server: at their time, replaced, cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from penstock.infra.bus import Bus, Stored
from penstock.infra.streams import streams
from penstock.infra.timers import Timers

Due = Callable[[str], Awaitable[Stored | None]]
LATEST = 3.0  # seconds; usually within 0.3


def after(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


@pytest.fixture
async def timers(bus: Bus) -> Timers:
    name = bus.subjects.stream("sched")
    [config] = [config for config in streams(bus.subjects) if config["name"] == name]
    await bus.api(f"STREAM.CREATE.{name}", config)
    return Timers(bus, "jobs")


@pytest.fixture
def due(bus: Bus) -> Due:
    """The due message of an id, if there is one now."""

    async def look(id: str) -> Stored | None:
        request = {"last_by_subj": bus.subjects.due("jobs", id)}
        found = await bus.direct_get(bus.subjects.stream("sched"), request)
        return found[0] if found else None

    return look


async def awaited(due: Due, id: str) -> Stored:
    async with asyncio.timeout(LATEST):
        while (found := await due(id)) is None:
            await asyncio.sleep(0.02)
    return found


async def test_a_timer_arrives_at_its_time_and_not_before(timers: Timers, due: Due) -> None:
    at = after(0.7)
    await timers.set("a", at, b"body")
    message = await awaited(due, "a")
    assert message.data == b"body"
    assert datetime.now(UTC) >= at


async def test_a_time_that_is_past_is_now(timers: Timers, due: Due) -> None:
    await timers.set("a", after(-3600), b"late")
    assert (await awaited(due, "a")).data == b"late"


async def test_setting_it_again_replaces_it(timers: Timers, due: Due) -> None:
    await timers.set("a", after(0.5), b"first")
    await timers.set("a", after(0.6), b"second")
    assert (await awaited(due, "a")).data == b"second"


async def test_many_set_at_once_each_arrive_at_their_time_and_replace_those_before(
    timers: Timers, due: Due
) -> None:
    await timers.set("7", after(0.5), b"replaced")
    await timers.set_many([(f"{n}", after(0.6 + n % 3 / 10), b"%d" % n) for n in range(1000)])
    await timers.cancel("8")
    assert [(await awaited(due, f"{n}")).data for n in (0, 7, 999)] == [b"0", b"7", b"999"]
    assert await due("8") is None


async def test_a_cancelled_timer_does_not_arrive(timers: Timers, due: Due) -> None:
    await timers.set("a", after(0.4), b"")
    await timers.set("b", after(0.6), b"")
    await timers.cancel("a")
    await awaited(due, "b")
    assert await due("a") is None


async def test_a_due_message_that_was_taken_goes_and_no_other(
    timers: Timers, due: Due, bus: Bus
) -> None:
    await timers.set("a", after(0), b"first")
    first = await awaited(due, "a")
    await bus.publish_acked(bus.subjects.due("jobs", "a"), b"second")
    await timers.taken(first.sequence)
    assert (await awaited(due, "a")).data == b"second"
    again = await bus.publish_acked(bus.subjects.due("jobs", "a"), b"first, put back")
    await timers.taken(again.seq)
    await timers.taken(again.seq)
    assert (await awaited(due, "a")).data == b"second"
    await timers.cancel("a")
    assert await due("a") is None
