"""After a timeout or a lost reply what is stored decides: the same command succeeded, or another
one was there first."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from penstock.contracts.errors import Conflict, Timeout
from penstock.infra.bus import Bus
from penstock.infra.event_log import Appended, Durability, JetStreamEventLog
from penstock.infra.nats_server import EmbeddedNats
from support.events import event
from support.proxy import Proxy

ACKNOWLEDGED = b'"seq":'
SEVERAL = [1, 3, 1, 2, 1, 1, 1, 4, 1, 1, 2, 1]
"""How many events the appends have that go together in one batch."""


async def append_many(log: JetStreamEventLog) -> list[Appended]:
    appends = [
        log.append([event(f"a{n}", v) for v in range(1, count + 1)], expected=0)
        for n, count in enumerate(SEVERAL)
    ]
    return await asyncio.gather(*appends)


async def check_stored_once(log: JetStreamEventLog, appended: list[Appended]) -> None:
    """Each append's events stand in the log once and in one piece, and end where it was told."""
    stored = [r async for r in log.read()]
    assert len(stored) == sum(SEVERAL)
    by_sequence = {r.sequence: r.event for r in stored}
    for n, (count, told) in enumerate(zip(SEVERAL, appended, strict=True)):
        places = range(told.sequence - count + 1, told.sequence + 1)
        mine = [event(f"a{n}", v) for v in range(1, count + 1)]
        assert [by_sequence[place] for place in places] == mine


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("cut", [True, False])
async def test_a_lost_reply_is_decided_by_what_is_stored(
    cut_bus: Bus, proxy: Proxy, durability: Durability, count: int, cut: bool
) -> None:
    log = JetStreamEventLog(cut_bus, "progress", durability=durability, timeout=2)
    proxy.lose, proxy.cut_then = ACKNOWLEDGED, cut
    events = [event("a", version) for version in range(1, count + 1)]
    appended = await log.append(events, expected=0)
    assert (appended.sequence, appended.again) == (count, True)
    assert [r.event for r in (await log.load("a")).events] == events
    assert cut_bus.connections == 1 + cut


async def test_when_the_reply_to_a_batch_is_lost_each_append_in_it_finds_its_own_place(
    cut_bus: Bus, proxy: Proxy, durability: Durability
) -> None:
    log = JetStreamEventLog(cut_bus, "progress", durability=durability)
    proxy.lose, proxy.cut_then = ACKNOWLEDGED, True
    appended = await append_many(log)
    assert any(a.again for a in appended)
    if durability == "fsync":  # they were one batch
        assert all(a.again for a in appended)
    await check_stored_once(log, appended)


@pytest.mark.parametrize("lost", [b"Nats-Batch-Commit", b"Nats-Batch-Sequence: 1\r\n"])
async def test_a_batch_lost_on_its_way_is_stored_by_the_second_attempt(
    cut_bus: Bus, proxy: Proxy, durability: Durability, lost: bytes
) -> None:
    log = JetStreamEventLog(cut_bus, "progress", durability=durability)
    proxy.lose_sent, proxy.cut_then = lost, True
    appended = await append_many(log)
    assert cut_bus.connections == 2
    await check_stored_once(log, appended)


async def test_a_server_killed_between_commit_and_reply_stores_each_append_once(
    killable: tuple[EmbeddedNats, Bus], durability: Durability
) -> None:
    server, direct = killable
    async with (
        Proxy(server.url) as proxy,
        await Bus.connect(proxy.url, prefix=direct.subjects.prefix) as bus,
    ):
        log = JetStreamEventLog(bus, "progress", durability=durability, timeout=30)
        proxy.lose = ACKNOWLEDGED
        appending = asyncio.create_task(append_many(log))
        await proxy.lost.wait()
        os.kill(server.pid, signal.SIGKILL)
        appended = await appending
        assert any(a.again for a in appended)
        await check_stored_once(log, appended)


@pytest.mark.parametrize("count", [1, 3])
async def test_an_append_lost_on_its_way_conflicts_with_another_that_was_stored_meanwhile(
    bus: Bus, cut_bus: Bus, proxy: Proxy, durability: Durability, count: int
) -> None:
    log = JetStreamEventLog(cut_bus, "progress", durability=durability, timeout=2)
    other = JetStreamEventLog(bus, "progress", durability=durability)
    proxy.lose_sent, proxy.cut_then = b"Nats-Expected", False
    mine = [event("a", version, by="mine") for version in range(1, count + 1)]
    appending = asyncio.create_task(log.append(mine, expected=0, command_id="mine"))
    await proxy.lost.wait()
    first = await other.append([event("a", by="other")], expected=0, command_id="other")
    with pytest.raises(Conflict) as caught:
        await appending
    assert caught.value.fields == {"expected": 0, "actual": first.sequence}
    assert [r.event.causationid for r in (await log.load("a")).events] == ["other"]


@pytest.mark.parametrize("count", [1, 3])
async def test_after_a_timeout_the_same_command_succeeds_and_another_conflicts(
    cut_bus: Bus, proxy: Proxy, durability: Durability, count: int
) -> None:
    impatient = JetStreamEventLog(cut_bus, "progress", durability=durability, timeout=0.04)
    proxy.lose = ACKNOWLEDGED
    first = [event("a", version, by="c-1") for version in range(1, count + 1)]
    with pytest.raises(Timeout):
        await impatient.append(first, expected=0, command_id="c-1")
    log = JetStreamEventLog(cut_bus, "progress", durability=durability)
    anew = event("a", 9, by="c-1", text="decided anew")
    again = await log.append([anew], expected=0, command_id="c-1")
    assert again == Appended(count, again=True)
    with pytest.raises(Conflict):
        await log.append([event("a", 9, by="c-2")], expected=0, command_id="c-2")
    assert [r.event for r in (await log.load("a")).events] == first
