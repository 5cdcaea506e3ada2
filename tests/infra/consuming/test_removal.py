"""What is taken out of a work queue goes, and what waits to be delivered anew still is."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from penstock.infra.bus import Bus
from penstock.infra.consuming.consumers import NAK, ensure_consumer
from penstock.infra.consuming.removal import remove_message, remove_subject

LEASE = 30.0  # seconds: longer than any test waits


@pytest.fixture
async def stream(bus: Bus) -> AsyncIterator[str]:
    """A work queue with a consumer `a` and four messages for it, of the subjects 0 to 3."""
    name = bus.subjects.stream("QUEUE")
    subjects = [f"{bus.subjects.prefix}.queue.>"]
    config = {"name": name, "subjects": subjects, "retention": "workqueue", "allow_direct": True}
    await bus.api(f"STREAM.CREATE.{name}", config)
    await ensure_consumer(bus, name, "a", f"{bus.subjects.prefix}.queue.*", LEASE)
    for number in range(4):
        await bus.publish_acked(subject(bus, number), b"%d" % number)
    yield name
    await bus.api(f"STREAM.DELETE.{name}")


def subject(bus: Bus, number: int) -> str:
    return f"{bus.subjects.prefix}.queue.{number}"


async def test_what_is_to_be_delivered_anew_is_so_though_another_subject_is_removed(
    bus: Bus, stream: str
) -> None:
    subscription = await bus.js.pull_subscribe_bind("a", stream)
    for message in await subscription.fetch(3, timeout=30):
        await bus.request(message.reply, NAK)  # answered once it is given back
    await remove_subject(bus, stream, subject(bus, 3))
    found = [message.data for message in await subscription.fetch(3, timeout=30)]
    assert sorted(found) == [b"0", b"1", b"2"]
    await subscription.unsubscribe()


async def test_all_messages_of_a_subject_go_and_no_other(bus: Bus, stream: str) -> None:
    await bus.publish_acked(subject(bus, 1), b"again")
    await remove_subject(bus, stream, subject(bus, 1))
    await remove_subject(bus, stream, subject(bus, 1))
    info = await bus.api(f"STREAM.INFO.{stream}", {"subjects_filter": ">"})
    assert sorted(info["state"]["subjects"]) == [subject(bus, n) for n in (0, 2, 3)]


async def test_removing_a_message_twice_is_removing_it_once(bus: Bus, stream: str) -> None:
    await remove_message(bus, stream, 2)
    await remove_message(bus, stream, 2)
    assert (await bus.api(f"STREAM.INFO.{stream}"))["state"]["messages"] == 3
