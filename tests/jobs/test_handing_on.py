"""A place is handed on in few steps, and never one that its job has come to need again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from penstock.client import Penstock
from penstock.contracts.envelope import unwrap
from penstock.contracts.gates import GateState, PlacesChanged, gate_id
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import JobError, JobFailed, JobReleased, JobStarted, Moved, SettleJob
from penstock.infra.deciding.aggregate import Aggregate
from penstock.infra.host import Host
from penstock.infra.service import Service
from penstock.jobs.admission import Admission
from penstock.jobs.gate import evolve
from penstock.jobs.gate_lines import AGE, OLD, Lines
from penstock.jobs.gates import Gates
from penstock.jobs.offers import Offers
from penstock.jobs.queue_states import QueueStates
from support.workers import left, work_item

GATE = gate_id("limit", "k")
NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


@pytest.fixture
def service(system: Host) -> Service[Any]:
    """The jobs service, which clients talk to."""
    [service] = system.services
    return service


@pytest.fixture
def other(service: Service[Any]) -> Admission:
    """What another instance would have."""
    bus, load = service.bus, service.decider.load
    places, offers = Gates(bus, service.log, load), Offers(bus)
    return Admission(bus, places, QueueStates(), load, lambda: service.model, offers)


async def changes(service: Service[Any], gate: str = GATE) -> list[PlacesChanged]:
    """What happened at the gate."""
    return [unwrap(record.event) for record in (await service.log.load(gate)).events]


async def holders(service: Service[Any], gate: str = GATE) -> set[str]:
    """Who has a place there, as the log tells."""
    state: GateState | None = None
    for record in (await service.log.load(gate)).events:
        state = evolve(state, unwrap(record.event), record.event)
    return set(state.holders) if state else set()


async def admitted(service: Service[Any], admission: Admission, id: str) -> Aggregate[JobState]:
    """The job, let in by `admission` where it had a place already."""
    job = await service.decider.load(id)
    await admission.admit(job)
    return await service.decider.load(id)


async def test_what_a_worker_tells_hands_the_place_on_without_a_look_at_its_job(
    ps: Penstock, service: Service[Any]
) -> None:
    first = await ps.jobs.enqueue("work", limit="k", at_most=1)
    second = await ps.jobs.enqueue("work", limit="k", at_most=1)
    sequence = (await service.log.last_sequence()) + 1
    # It is not so: what the log says would keep its place.
    told = Moved(id=first.id, sequence=sequence, started=NOW, ended=NOW)
    await ps.session.command(SettleJob(), id=first.id)
    assert await holders(service) == {first.id}
    await ps.session.command(SettleJob(moved=told), id=first.id)
    assert await holders(service) == {second.id}
    assert (await changes(service))[-1] == PlacesChanged(freed=(first.id,), taken=(second.id,))


async def test_what_is_told_of_before_a_job_was_let_in_is_looked_up(
    ps: Penstock, service: Service[Any]
) -> None:
    first = await ps.jobs.enqueue("work", limit="k", at_most=1)
    told = Moved(id=first.id, sequence=1, started=NOW, ended=NOW)
    await ps.session.command(SettleJob(moved=told), id=first.id)
    assert await holders(service) == {first.id}


async def test_a_job_that_was_redriven_elsewhere_keeps_the_place_that_it_had(
    ps: Penstock, service: Service[Any], other: Admission
) -> None:
    job = await ps.jobs.enqueue("work", limit="k", at_most=1)
    await admitted(service, other, job.id)
    item = await work_item(ps, job)
    started = JobStarted(attempt=1, worker="w", item=item)
    await left(ps, job, started, JobFailed(attempt=1, error=JobError(type="E", message="boom")))
    failed = await service.decider.load(job.id)
    await ps.jobs.redrive(job.id)
    await other.settle(failed)  # which this instance had seen before
    assert await holders(service) == {job.id}


async def test_a_job_that_was_given_back_elsewhere_keeps_its_turn_though_its_start_is_told_late(
    ps: Penstock, service: Service[Any], other: Admission
) -> None:
    gate = gate_id("tenant", "default/a")
    job = await ps.jobs.enqueue("work", tenant="a")
    before = await admitted(service, other, job.id)
    item = await work_item(ps, job)
    started = JobStarted(attempt=1, worker="w", item=item)
    released = JobReleased(attempt=1, worker="w", item=item, reason="it shuts down")
    await left(ps, job, started, released)
    await ps.session.command(SettleJob(), id=job.id)  # it is offered again
    told = other.standing.moved(Moved(id=job.id, sequence=before.sequence + 1, started=NOW))
    assert told is not None and told.state is not None and told.state.state == "processing"
    await other.settle(told)
    assert await holders(service, gate) == {job.id}


async def test_who_was_let_in_elsewhere_is_looked_up_whatever_is_told(
    ps: Penstock, service: Service[Any], other: Admission
) -> None:
    job = await ps.jobs.enqueue("work", limit="k", at_most=1)
    before = await admitted(service, other, job.id)
    told = Moved(id=job.id, sequence=before.sequence + 1, started=NOW, ended=NOW)
    assert other.standing.moved(told) is not None
    places = Gates(service.bus, service.log, service.decider.load)
    await places.know([GATE])
    assert await places.store({GATE: (PlacesChanged(taken=(job.id,)), "f")}, datetime.now(UTC))
    waits = await ps.jobs.enqueue("work", limit="k", at_most=1)
    await other.admit(await service.decider.load(waits.id), fresh=True)
    assert other.standing.moved(told) is None


async def test_one_that_was_cancelled_unseen_gives_the_place_back_that_it_was_let_in_to(
    ps: Penstock, service: Service[Any], other: Admission
) -> None:
    holding = await ps.jobs.enqueue("work", limit="k", at_most=1)
    cancelled = await ps.jobs.enqueue("work", limit="k", at_most=1)
    assert (await ps.jobs.why(cancelled.id)).waits_for == ("limit",)  # the view knows it
    async with service.projector.paused():
        await ps.jobs.cancel(cancelled.id)
        await ps.jobs.cancel(holding.id)
        await other.fill(GATE)
        async with asyncio.timeout(10):
            while await holders(service):
                await asyncio.sleep(0.02)
    taken = [id for change in await changes(service) for id in change.taken]
    assert taken == [holding.id, cancelled.id]
    assert not await offered(ps, cancelled)
    last = await ps.jobs.enqueue("work", limit="k", at_most=1)
    assert await holders(service) == {last.id}
    assert await offered(ps, last)


async def offered(ps: Penstock, job: JobState) -> bool:
    """Whether there is a work item of it."""
    subjects = ps.session.bus.subjects
    request = {"last_by_subj": subjects.work(job.queue, job.priority, job.id)}
    return bool(await ps.session.bus.direct_get(subjects.stream("work"), request))


async def test_a_delayed_job_that_was_seen_to_wait_for_its_time_has_its_turn(
    ps: Penstock, service: Service[Any]
) -> None:
    holding = await ps.jobs.enqueue("work", limit="k", at_most=1)
    delayed = await ps.jobs.enqueue("work", limit="k", at_most=1, delay=0.3)
    await ps.session.command(SettleJob(), id=delayed.id)  # it waits, and that is seen
    async with asyncio.timeout(10):
        while (await ps.jobs.why(delayed.id)).waits_for != ("limit",):
            await asyncio.sleep(0.02)
    await asyncio.sleep(OLD)  # whoever looks now asks the view
    await ps.jobs.cancel(holding.id)
    async with asyncio.timeout(10):
        while await holders(service) != {delayed.id}:
            await asyncio.sleep(0.02)


async def test_a_line_that_is_a_little_old_is_used_and_read_beside(
    ps: Penstock, service: Service[Any]
) -> None:
    jobs = [await ps.jobs.enqueue("work", limit="k", at_most=1) for _ in range(3)]
    assert (await ps.jobs.why(jobs[-1].id)).waits_for == ("limit",)  # the view knows them
    now = [0.0]
    lines = Lines(lambda: service.model, clock=lambda: now[0] + 100.0)
    await lines.look({GATE: 1})
    assert [one.job for one in lines.of(GATE)] == [job.id for job in jobs[1:]]
    await ps.jobs.cancel(jobs[1].id)
    assert (await ps.jobs.why(jobs[1].id)).waits_for == ()
    await lines.look({GATE: 1})
    assert len(lines.of(GATE)) == 2
    now[0] += 2 * AGE
    await lines.look({GATE: 1})
    assert len(lines.of(GATE)) == 2
    async with asyncio.timeout(10):
        while len(lines.of(GATE)) == 2:
            await asyncio.sleep(0.02)
    assert [one.job for one in lines.of(GATE)] == [jobs[2].id]
    await lines.close()
