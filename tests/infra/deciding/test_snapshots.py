"""Snapshots shorten the way to a long aggregate, and are never missed when they are of no use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from penstock.contracts.envelope import encode
from penstock.contracts.progress import ProgressCreated, ProgressState
from penstock.infra.bus import Bus
from penstock.infra.commit import publish_batch
from penstock.infra.deciding.aggregate import Aggregate
from penstock.infra.deciding.aggregates import Aggregates
from penstock.infra.deciding.snapshots import EVERY, Snapshots
from penstock.infra.event_log import JetStreamEventLog
from penstock.infra.streams import provision
from penstock.progress.domain import evolve
from support.events import event, wrapped

LONG = 3 * EVERY


@pytest.fixture
async def log(nats_url: str, prefix: str) -> AsyncIterator[JetStreamEventLog]:
    async with await Bus.connect(nats_url, prefix=prefix) as bus:
        await provision(bus)
        log = JetStreamEventLog(bus, "progress", durability="os")
        yield log
        await log.close()


def snapshots(log: JetStreamEventLog, version: int = 1) -> Snapshots[ProgressState]:
    return Snapshots(log.bus, "progress", ProgressState, version=version)


def aggregates(log: JetStreamEventLog, version: int = 1) -> Aggregates[ProgressState]:
    return Aggregates(log, evolve, snapshots=snapshots(log, version))


async def store(log: JetStreamEventLog, id: str, count: int, *, after: int = 0) -> None:
    subject = log.bus.subjects.event("progress", id)
    created = wrapped(ProgressCreated(), id, 1, by="c-1")
    events = [event(id, version, by=f"c-{version}") for version in range(after + 1, count + 1)]
    if not after:
        events[0] = created
    await publish_batch(log.bus, [(subject, encode(e), {}) for e in events], timeout=10)


async def snapped(log: JetStreamEventLog, id: str) -> Aggregate[ProgressState]:
    """The snapshot of a long aggregate, made by loading it."""
    loading = aggregates(log)
    await loading.load(id)
    await loading.close()
    found = await snapshots(log).load(id)
    assert found is not None
    return found


def told(aggregate: Aggregate[ProgressState]) -> tuple[object, ...]:
    return (
        aggregate.state,
        aggregate.version,
        aggregate.sequence,
        set(aggregate.commands),
        aggregate.last,
    )


async def test_a_snapshot_tells_what_the_events_tell(log: JetStreamEventLog) -> None:
    await store(log, "long", LONG)
    plain = await Aggregates(log, evolve).load("long")
    assert told(await snapped(log, "long")) == told(plain)
    assert plain.knows("c-1") and plain.knows(f"c-{LONG}") and not plain.knows("c-0")


async def test_behind_a_snapshot_only_the_rest_is_read(log: JetStreamEventLog) -> None:
    await store(log, "long", LONG)
    await snapped(log, "long")
    await log.purge("long", before=(await log.load("long")).sequence)  # all but the last is gone
    await store(log, "long", LONG + 2, after=LONG)
    loaded = await aggregates(log).load("long")
    assert loaded.version == LONG + 2
    assert loaded.state and loaded.state.percent == (LONG + 2) % 101


async def test_a_short_aggregate_has_none(log: JetStreamEventLog) -> None:
    await store(log, "short", EVERY - 1)
    loading = aggregates(log)
    await loading.load("short")
    await loading.close()
    assert await snapshots(log).load("short") is None


async def test_a_snapshot_of_other_code_is_ignored_and_replaced(log: JetStreamEventLog) -> None:
    await store(log, "long", LONG)
    await snapped(log, "long")
    newer = aggregates(log, version=2)
    found = await snapshots(log, version=2).load("long")
    assert found is not None and (found.version, found.state) == (0, None)
    assert (await newer.load("long")).version == LONG
    await newer.close()
    replaced = await snapshots(log, version=2).load("long")
    assert replaced is not None and replaced.version == LONG


async def test_a_damaged_snapshot_is_ignored(log: JetStreamEventLog) -> None:
    await store(log, "long", LONG)
    subject = log.bus.subjects.snapshot("progress", "long")
    await log.bus.publish_acked(subject, b"not JSON")
    assert (await aggregates(log).load("long")).version == LONG


async def test_a_snapshot_that_the_log_does_not_reach_is_ignored(log: JetStreamEventLog) -> None:
    """As after a restore of the log alone: what a snapshot tells beyond it never happened."""
    await store(log, "long", LONG)
    await snapped(log, "long")
    await log.bus.api(f"STREAM.PURGE.{log.stream}", {})
    await store(log, "long", 3)
    loaded = await aggregates(log).load("long")
    assert (loaded.version, loaded.state and loaded.state.percent) == (3, 3)


async def test_of_two_instances_that_write_one_the_second_does_no_harm(
    log: JetStreamEventLog,
) -> None:
    await store(log, "long", LONG)
    both = [aggregates(log) for _ in range(2)]
    await asyncio.gather(*(one.load("long") for one in both))
    for one in both:
        await one.close()
    found = await snapshots(log).load("long")
    assert found is not None and found.version == LONG


async def test_none_takes_the_place_of_an_erased_one(log: JetStreamEventLog) -> None:
    await store(log, "long", LONG)
    writing = snapshots(log)
    aggregate = await Aggregates(log, evolve).load("long")
    await snapshots(log).erase("long")
    writing.offer(aggregate)  # it had looked before that
    await writing.close()
    found = await snapshots(log).load("long")
    assert found is not None and found.state is None
