"""Work items are put into the queue once, however often and in whatever way they are offered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from penstock.client import Penstock
from penstock.contracts.job_state import JobState
from penstock.contracts.subjects import MSG_ID
from penstock.infra.bus import Message, Stored
from penstock.infra.deciding.aggregate import Aggregate
from penstock.infra.event_log import Durability
from penstock.infra.host import Host
from penstock.jobs.offers import Offers
from support.workers import stored

JOBS = 30
BATCH = "Nats-Batch-Id"


@pytest.fixture
async def jobs(system: Host, ps: Penstock) -> Sequence[Aggregate[JobState]]:
    """Jobs that can be offered, and of which none is."""
    [service] = system.services
    ids = [(await ps.jobs.enqueue("never", delay=3600)).id for _ in range(JOBS)]
    loaded = [await service.decider.load(id) for id in ids]
    assert not await stored(ps, "work")
    return loaded


async def items(ps: Penstock) -> list[Stored]:
    bus = ps.session.bus
    request = {"seq": 1, "next_by_subj": ">", "batch": 10 * JOBS}
    return await bus.direct_get(bus.subjects.stream("work"), request)


@pytest.mark.parametrize(("durability", "together"), [("fsync", True), ("os", False)])
async def test_those_that_come_together_are_stored_together_where_the_server_syncs(
    ps: Penstock,
    jobs: Sequence[Aggregate[JobState]],
    durability: Durability,
    together: bool,
) -> None:
    offers = Offers(ps.session.bus, durability=durability)
    await asyncio.gather(*map(offers.offer, jobs))
    found = await items(ps)
    assert len({item.subject for item in found}) == len(found) == JOBS
    assert any(BATCH in item.headers for item in found) is together


async def test_those_that_were_offered_before_are_offered_once_and_keep_no_other_back(
    ps: Penstock, jobs: Sequence[Aggregate[JobState]]
) -> None:
    offers = Offers(ps.session.bus, durability="fsync")
    await asyncio.gather(*map(offers.offer, jobs[:10]))
    await asyncio.gather(*map(offers.offer, jobs))
    assert len({item.subject for item in await items(ps)}) == len(await items(ps)) == JOBS
    later = [replace(job, sequence=job.sequence + 1000) for job in jobs]
    await asyncio.gather(*map(offers.offer, later))
    assert len(await items(ps)) == 2 * JOBS


def named(ps: Penstock, first: int, count: int) -> list[Message]:
    subject = ps.session.bus.subjects.work
    names = [f"j{n}" for n in range(first, first + count)]
    return [(subject("default", 5, name), b"{}", {MSG_ID: f"{name}:1"}) for name in names]


@pytest.mark.parametrize("durability", ["fsync", "os"])
@pytest.mark.parametrize(("known", "count"), [(0, 3), (2, 3), (5, 40), (40, 40), (0, 2500)])
async def test_an_item_that_was_offered_before_is_offered_once(
    ps: Penstock, durability: Durability, known: int, count: int
) -> None:
    offers = Offers(ps.session.bus, durability=durability)
    await offers.put(named(ps, 0, known))
    await offers.put(named(ps, 0, count))
    assert await stored(ps, "work") == count
    await offers.put(named(ps, count - 1, 30))
    assert await stored(ps, "work") == count + 29
