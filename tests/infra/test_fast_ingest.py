"""Many messages stored in one go on a real server: which of them are, whatever becomes of one."""

from __future__ import annotations

import asyncio

import pytest

from penstock.contracts.errors import TooLarge
from penstock.contracts.subjects import EXPECTED, MSG_ID
from penstock.infra.bus import Bus, ConnectionLost, Message, StreamError
from penstock.infra.commit import MAX_BATCH
from penstock.infra.fast_ingest import ingest
from penstock.infra.streams import streams
from support.proxy import Proxy


@pytest.fixture(autouse=True)
async def work_stream(bus: Bus) -> None:
    name = bus.subjects.stream("work")
    [config] = [one for one in streams(bus.subjects) if one["name"] == name]
    await bus.api(f"STREAM.CREATE.{name}", config)


def item(bus: Bus, name: str) -> Message:
    named = {MSG_ID: name}
    return bus.subjects.work("default", 5, name), name.encode(), named


def items(bus: Bus, name: str, count: int) -> list[Message]:
    return [item(bus, f"{name}{n}") for n in range(count)]


async def bodies(bus: Bus) -> list[str]:
    """What is stored, in order."""
    request = {"seq": 1, "next_by_subj": f"{bus.subjects.prefix}.work.>", "batch": 5000}
    found = await bus.direct_get(bus.subjects.stream("work"), request)
    return [message.data.decode() for message in found]


@pytest.mark.parametrize("count", [1, 2, MAX_BATCH])
async def test_all_are_stored_in_their_order(bus: Bus, count: int) -> None:
    assert await ingest(bus, items(bus, "a", count), timeout=10)
    assert await bodies(bus) == [f"a{n}" for n in range(count)]


async def test_several_at_a_time_do_not_disturb_each_other(bus: Bus) -> None:
    told = await asyncio.gather(
        *(ingest(bus, items(bus, name, 300), timeout=10) for name in "abcdef")
    )
    assert told == [True] * 6
    stored = await bodies(bus)
    for name in "abcdef":
        assert [one for one in stored if one[0] == name] == [f"{name}{n}" for n in range(300)]


@pytest.mark.parametrize("known", [[0], [1, 2], [4], [0, 1, 2, 3, 4]])
async def test_what_is_known_by_its_id_counts_as_stored(bus: Bus, known: list[int]) -> None:
    sent = items(bus, "a", 5)
    for n in known:
        await bus.publish_acked(*sent[n])
    assert await ingest(bus, sent, timeout=10)
    assert sorted(await bodies(bus)) == [f"a{n}" for n in range(5)]


@pytest.mark.parametrize("place", [1, 7, 19])
async def test_one_that_is_refused_ends_it(bus: Bus, place: int) -> None:
    sent = items(bus, "a", 20)
    sent[place] = (*sent[place][:2], {EXPECTED: "7"})
    assert not await ingest(bus, sent, timeout=10)
    assert await bodies(bus) == [f"a{n}" for n in range(place)]


async def test_a_first_one_that_is_refused_is_told(bus: Bus) -> None:
    first, *others = items(bus, "a", 20)
    with pytest.raises(StreamError):
        await ingest(bus, [(*first[:2], {EXPECTED: "7"}), *others], timeout=10)
    assert await bodies(bus) == []


async def test_after_a_lost_connection_it_is_finished_by_trying_again(
    bus: Bus, cut_bus: Bus, proxy: Proxy
) -> None:
    sent = items(bus, "a", MAX_BATCH)
    trying = asyncio.create_task(ingest(cut_bus, sent, timeout=10))
    await asyncio.sleep(0)
    proxy.cut()
    with pytest.raises(ConnectionLost):
        await trying
    assert await ingest(cut_bus, sent, timeout=10)
    assert sorted(await bodies(bus)) == sorted(f"a{n}" for n in range(MAX_BATCH))


async def test_a_stream_that_does_not_take_part_says_so(bus: Bus) -> None:
    sent: list[Message] = [(bus.subjects.event("progress", f"a{n}"), b"", {}) for n in range(9)]
    with pytest.raises(StreamError):
        await ingest(bus, sent, timeout=10)


async def test_what_is_written_in_an_unusual_way_is_stored_as_well(bus: Bus) -> None:
    sent = [item(bus, "größe"), *items(bus, "a", 2)]
    assert await ingest(bus, sent, timeout=10)
    assert await bodies(bus) == ["größe", "a0", "a1"]


async def test_more_than_the_server_keeps_in_line_is_refused(bus: Bus) -> None:
    with pytest.raises(TooLarge):
        await ingest(bus, items(bus, "a", MAX_BATCH + 1), timeout=10)
