"""What the event log promises when replies, connections and servers are lost."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter

import pytest

from penstock.contracts.errors import PenstockError, TooLarge, Unavailable
from penstock.infra.bus import Bus
from penstock.infra.event_log import Durability, JetStreamEventLog
from penstock.infra.nats_server import EmbeddedNats
from support.events import event


async def test_every_acknowledged_append_outlives_a_killed_server_exactly_once(
    killable: tuple[EmbeddedNats, Bus], durability: Durability
) -> None:
    server, bus = killable
    log = JetStreamEventLog(bus, "progress", durability=durability, timeout=30)
    acknowledged: dict[int, str] = {}
    enough = asyncio.Event()

    async def write(writer: int) -> int:
        last = version = 0
        while not enough.is_set():
            version += 1
            record = event(f"w{writer}", version, by=f"c{writer}-{version}")
            last = (await log.append([record], expected=last)).sequence
            acknowledged[last] = record.id
        return version

    async def kill(times: int) -> None:
        for _ in range(times):
            pid, seen = server.pid, len(acknowledged)
            while len(acknowledged) < seen + 300:
                await asyncio.sleep(0.01)
            os.kill(pid, signal.SIGKILL)
            while server.pid == pid:
                await asyncio.sleep(0.01)
        enough.set()

    async with asyncio.timeout(90):
        versions, _ = await asyncio.gather(asyncio.gather(*map(write, range(16))), kill(2))
    stored = [r async for r in log.read()]
    assert {r.sequence: r.event.id for r in stored} == acknowledged
    assert max(Counter(acknowledged.values()).values()) == 1
    for writer, count in enumerate(versions):
        mine = [r.event.version for r in stored if r.event.subject == f"w{writer}"]
        assert mine == list(range(1, count + 1))


async def test_no_append_hangs_when_the_server_does_not_come_back(
    killable: tuple[EmbeddedNats, Bus], durability: Durability
) -> None:
    server, bus = killable
    log = JetStreamEventLog(bus, "progress", durability=durability, timeout=1.0)
    appends = [asyncio.create_task(log.append([event(f"a{n}", 1)], expected=0)) for n in range(500)]
    await asyncio.sleep(0)
    os.kill(server.pid, signal.SIGKILL)
    await server.stop()
    appends += [
        asyncio.create_task(log.append([event(f"b{n}", 1)], expected=0)) for n in range(500)
    ]
    async with asyncio.timeout(60):
        results = await asyncio.gather(*appends, return_exceptions=True)
        await log.close()
    assert all(isinstance(result, Unavailable) for result in results[500:])
    assert not [r for r in results if isinstance(r, Exception) and not isinstance(r, Unavailable)]


async def test_reading_says_that_the_server_is_gone(
    killable: tuple[EmbeddedNats, Bus], durability: Durability
) -> None:
    server, bus = killable
    bus.timeout = 0.5
    log = JetStreamEventLog(bus, "progress", durability=durability)
    await server.stop()
    with pytest.raises(Unavailable):
        await log.load("a")
    with pytest.raises(Unavailable):
        [record async for record in log.read()]


async def test_an_event_too_large_is_refused_and_the_others_are_stored(
    bus: Bus, durability: Durability
) -> None:
    log = JetStreamEventLog(bus, "progress", durability=durability)
    results = await asyncio.gather(
        log.append([event("large", 1, text="x" * bus.nc.max_payload)], expected=0),
        *(log.append([event(f"a{n}", 1)], expected=0) for n in range(10)),
        return_exceptions=True,
    )
    assert isinstance(results[0], TooLarge)
    assert not any(isinstance(result, PenstockError) for result in results[1:])
    assert bus.connections == 1


async def test_an_aggregate_beyond_what_one_answer_of_the_server_holds_is_loaded_whole(
    bus: Bus, durability: Durability
) -> None:
    log = JetStreamEventLog(bus, "progress", durability=durability)
    text, last = "x" * (4 * 1024 * 1024), 0
    for version in range(1, 21):  # 80 MiB; the server closes the connection at 64
        last = (await log.append([event("a", version, text=text)], expected=last)).sequence
    loaded = await log.load("a")
    assert [r.event.version for r in loaded.events] == list(range(1, 21))
    assert loaded.sequence == last
    assert bus.connections == 1
