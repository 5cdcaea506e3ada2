"""A job whose work item the server lost sight of goes on, also if a worker had begun it."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from penstock.client import Penstock
from penstock.infra.bus import Bus, Stored
from penstock.infra.consuming.clearing import clearing
from penstock.infra.host import Host
from penstock.infra.repeated import Repeated
from penstock.jobs.admission import Admission
from penstock.jobs.dispatch import Dispatch
from penstock.jobs.gates import Gates
from penstock.jobs.giving_back import GivingBack
from penstock.jobs.items import Settled
from penstock.jobs.offers import Offers
from penstock.jobs.queue_states import QueueStates
from penstock.jobs.unique import UniqueKeys
from penstock.jobs.unique_claims import UniqueClaims
from support.workers import Spawn, event_names, nothing_left, stored

SOON = 0.1


@pytest.fixture
def give_back(system: Host) -> GivingBack:
    """What the service does with such an item."""
    [service] = system.services
    bus, load = service.bus, service.decider.load
    places, offers = Gates(bus, service.log, load), Offers(bus)
    admission = Admission(bus, places, QueueStates(), load, lambda: service.model, offers)
    claims = UniqueClaims(bus, UniqueKeys(bus), load)
    return GivingBack(service.log, load, Dispatch(bus, admission, offers, claims))


@pytest.fixture
async def settled(system: Host) -> Settled:
    """What tells which items no job needs. The service's own removal of these is ended: it has
    seen no server die, so that it removes what `lose` has lost before it can be put back.
    """
    [service] = system.services
    name = f"removal of what is done from {service.bus.subjects.stream('work')}"
    [removal] = [p for p in service.parts if isinstance(p, Repeated) and p._name == name]
    await removal.stop()
    return Settled(service.bus, service.log, service.decider.load)


async def running_job(ps: Penstock, spawn: Spawn) -> Stored:
    """The item of the job `running`, whose worker was killed over it."""
    program = spawn()
    await ps.jobs.enqueue("wait", id="running")
    async for job in ps.jobs.watch("running"):
        if job.state == "processing":
            break
    program.send(signal.SIGKILL)
    program.wait()
    return await item_of(ps.session.bus, "running")


async def item_of(bus: Bus, id: str) -> Stored:
    subject = bus.subjects.work("default", 5, id)
    [item] = await bus.direct_get(bus.subjects.stream("work"), {"last_by_subj": subject})
    return item


async def lose(bus: Bus, item: Stored) -> None:
    """What a killed server may do: take the item for acknowledged."""
    stream = bus.subjects.stream("work")
    await bus.api(f"CONSUMER.RESET.{stream}.default-5", {"seq": item.sequence + 1})


async def test_a_job_that_was_started_with_a_lost_item_is_run_again(
    ps: Penstock, spawn: Spawn, tmp_path: Path, give_back: GivingBack, settled: Settled
) -> None:
    bus = ps.session.bus
    await lose(bus, await running_job(ps, spawn))
    work = bus.subjects.stream("work")
    part = clearing(bus, work, settled, instead=give_back, every=SOON)
    await part.start()
    (tmp_path / "go").touch()
    spawn()
    await ps.jobs.result("running", timeout=60)
    await nothing_left(ps)
    await part.stop()
    names = await event_names(ps, "running")
    assert names == ["queued", "started", "released", "started", "completed"]


async def test_a_job_that_nobody_started_is_put_back_as_it_is(
    ps: Penstock, spawn: Spawn, tmp_path: Path, give_back: GivingBack, settled: Settled
) -> None:
    await running_job(ps, spawn)
    bus = ps.session.bus
    await ps.jobs.enqueue("brief", {"n": 1}, id="waiting")
    item = await item_of(bus, "waiting")
    await lose(bus, item)
    assert not await give_back(item)
    (tmp_path / "go").touch()
    work = bus.subjects.stream("work")
    part = clearing(bus, work, settled, instead=give_back, every=SOON)
    await part.start()
    spawn()
    assert await ps.jobs.result("waiting", timeout=60) == 1
    await part.stop()
    assert await event_names(ps, "waiting") == ["queued", "started", "completed"]


async def test_giving_back_twice_offers_one_item(
    ps: Penstock, spawn: Spawn, give_back: GivingBack
) -> None:
    item = await running_job(ps, spawn)
    found = await asyncio.gather(*(give_back(item) for _ in range(3)))
    assert found == [True] * 3
    assert await stored(ps, "work") == 2, "the lost one, which is removed next, and the new one"
    assert await event_names(ps, "running") == ["queued", "started", "released"]


async def test_an_item_is_settled_when_its_job_needs_it_no_more(
    ps: Penstock, spawn: Spawn, tmp_path: Path, settled: Settled
) -> None:
    running = await running_job(ps, spawn)
    bus = ps.session.bus
    await ps.jobs.enqueue("brief", {"n": 1}, id="waiting")
    waiting = await item_of(bus, "waiting")
    assert await settled([running, waiting]) == set()
    (tmp_path / "go").touch()
    spawn()
    await ps.jobs.result("running", timeout=60)
    await ps.jobs.result("waiting", timeout=60)
    assert await settled([running, waiting]) == {running.sequence, waiting.sequence}
