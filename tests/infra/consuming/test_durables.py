"""Durable consumers on a real server: made, corrected, and made again where they stood."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.contracts.errors import Unavailable
from penstock.infra.bus import Bus, StreamError
from penstock.infra.consuming.durables import MISSING, Backlog, Durable

NAME = "taker"


def stream_of(bus: Bus) -> str:
    return bus.subjects.event_stream("progress")


def durable(bus: Bus, **more: Any) -> Durable:
    config = {"durable_name": NAME, "filter_subject": bus.subjects.events("progress"), **more}
    return Durable(bus, stream_of(bus), config)


async def put(bus: Bus, count: int) -> None:
    for number in range(count):
        await bus.publish_acked(bus.subjects.event("progress", f"a{number}"), b"")


async def take(bus: Bus, count: int, *, ack: bool = True) -> list[int]:
    """The stream sequences of the next messages."""
    subscription = await bus.js.pull_subscribe_bind(NAME, stream_of(bus))
    taken = await subscription.fetch(count, timeout=30)
    for msg in taken if ack else ():
        await msg.ack_sync()
    await subscription.unsubscribe()
    return [msg.metadata.sequence.stream for msg in taken]


async def delete(bus: Bus) -> None:
    await bus.api(f"CONSUMER.DELETE.{stream_of(bus)}.{NAME}")


async def config_of(bus: Bus) -> dict[str, Any]:
    found: dict[str, Any] = (await bus.api(f"CONSUMER.INFO.{stream_of(bus)}.{NAME}"))["config"]
    return found


async def test_the_backlog_counts_what_waits_and_what_came_to_an_end(bus: Bus) -> None:
    consumer = durable(bus)
    await consumer.ensure()
    await put(bus, 5)
    assert await consumer.look() == Backlog(waiting=5, settled=0)
    await take(bus, 2)
    await take(bus, 1, ack=False)
    assert await consumer.look() == Backlog(waiting=3, settled=2)


async def test_one_that_was_deleted_goes_on_behind_what_was_acknowledged(bus: Bus) -> None:
    consumer = durable(bus)
    await consumer.ensure()
    await put(bus, 5)
    await take(bus, 2)
    await consumer.look()
    await delete(bus)
    with pytest.raises(StreamError) as caught:
        await consumer.look()
    assert caught.value.err_code in MISSING
    await consumer.ensure()
    assert await take(bus, 3) == [3, 4, 5]


async def test_one_that_this_process_never_saw_begins_where_its_config_says(bus: Bus) -> None:
    await durable(bus).ensure()
    await put(bus, 3)
    await take(bus, 2)
    await delete(bus)
    await durable(bus).ensure()
    assert await take(bus, 3) == [1, 2, 3]


async def test_on_a_stream_that_was_made_anew_it_begins_with_the_first(bus: Bus) -> None:
    consumer = durable(bus)
    await consumer.ensure()
    await put(bus, 3)
    await take(bus, 2)
    await consumer.look()
    config = (await bus.api(f"STREAM.INFO.{stream_of(bus)}"))["config"]
    await bus.api(f"STREAM.DELETE.{stream_of(bus)}")
    with pytest.raises((StreamError, Unavailable)):
        await consumer.ensure()
    await bus.api(f"STREAM.CREATE.{stream_of(bus)}", config)
    await put(bus, 4)
    await consumer.ensure()
    assert await take(bus, 4) == [1, 2, 3, 4]


async def test_one_that_is_there_is_brought_to_its_config_and_keeps_its_place(bus: Bus) -> None:
    await durable(bus, ack_wait=30_000_000_000).ensure()
    await put(bus, 3)
    await take(bus, 2)
    changed = durable(bus, ack_wait=4_000_000_000, max_ack_pending=7)
    for _ in "12":
        await changed.ensure()
        config = await config_of(bus)
        assert (config["ack_wait"], config["max_ack_pending"]) == (4_000_000_000, 7)
    assert await take(bus, 1) == [3]


async def test_several_instances_make_one(bus: Bus) -> None:
    first, second = durable(bus), durable(bus)
    await first.ensure()
    await put(bus, 2)
    await take(bus, 1)
    await first.look()
    await delete(bus)
    await second.ensure()  # it knows no place
    await first.ensure()
    assert await take(bus, 2) == [1, 2]
