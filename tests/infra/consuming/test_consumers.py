"""Durable consumers on a real server: made once, and how long they wait."""

from __future__ import annotations

import pytest

from penstock.infra.bus import Bus, StreamError
from penstock.infra.consuming.consumers import Delivery, delivery, ensure_consumer, nak_after


async def ensure(bus: Bus, seconds: float) -> float:
    stream = bus.subjects.event_stream("progress")
    return await ensure_consumer(bus, stream, "c", bus.subjects.events("progress"), seconds)


async def pull_one(bus: Bus) -> None:
    """Have a message delivered and not acknowledged."""
    await bus.publish_acked(bus.subjects.event("progress", "a"), b"{}")
    stream = bus.subjects.event_stream("progress")
    inbox = bus.nc.new_inbox()
    delivered = await bus.nc.subscribe(inbox)
    await bus.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.c", b"1", reply=inbox)
    await delivered.next_msg(5)


async def test_making_it_twice_is_making_it_once(bus: Bus) -> None:
    assert (await ensure(bus, 2), await ensure(bus, 2)) == (2, 2)


async def test_the_longer_wait_holds_while_somebody_uses_it(bus: Bus) -> None:
    await ensure(bus, 2)
    await pull_one(bus)
    assert await ensure(bus, 5) == 5
    assert await ensure(bus, 2) == 5


async def test_nobody_who_uses_it_means_that_it_may_wait_less(bus: Bus) -> None:
    await ensure(bus, 5)
    assert await ensure(bus, 2) == 2


async def test_one_that_has_its_filter_in_other_words_gets_these(bus: Bus) -> None:
    await ensure(bus, 5)
    await pull_one(bus)
    stream = bus.subjects.event_stream("progress")
    other = bus.subjects.events("progress").replace(bus.subjects.prefix, "*", 1)
    assert await ensure_consumer(bus, stream, "c", other, 2) == 5, "it is in use"
    assert (await bus.api(f"CONSUMER.INFO.{stream}.c"))["config"]["filter_subject"] == other


async def test_without_a_stream_there_is_no_consumer(bus: Bus) -> None:
    with pytest.raises(StreamError, match="stream not found"):
        await ensure_consumer(bus, "NONE", "c", "none.>", 1)


def test_a_reply_subject_tells_the_delivery_with_and_without_a_domain() -> None:
    plain = "$JS.ACK.S.c.2.7.9.1795426493569398854.4"
    assert delivery(plain) == Delivery("c", 2, 7)
    assert delivery("$JS.ACK.hub.acc.S.c.2.7.9.1795426493569398854.4.x") == Delivery("c", 2, 7)


def test_a_delay_is_told_in_nanoseconds() -> None:
    assert nak_after(1.5) == b'-NAK {"delay": 1500000000}'
