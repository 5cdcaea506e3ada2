"""Limits and rates, over a real server and with real workers; the gates' own rules beside them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from penstock.client import Penstock, Rate, Worker
from penstock.contracts.envelope import unwrap, wrap
from penstock.contracts.gates import (
    Began,
    GateState,
    PlaceFreed,
    PlacesChanged,
    PlaceTaken,
    gate_id,
)
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import (
    Backoff,
    JobReleased,
    JobStarted,
    Limit,
    Rules,
    SettleJob,
)
from penstock.contracts.lifecycle import ERASE
from penstock.infra.event_log import JetStreamEventLog
from penstock.infra.host import Host
from penstock.infra.testing import running_system
from penstock.jobs.admission_round import linked
from penstock.jobs.gate import MOMENTS, WINDOW, Event, Gate, evolve, gates, keeps, lately, opens
from penstock.jobs.gate_pace import MOST
from penstock.jobs.gate_round import Round
from penstock.jobs.gates import Gates
from penstock.jobs.service import build
from support.workers import NewWorker, Serve, left, work_item

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def job(state: str = "pending", **rules: object) -> JobState:
    return JobState(
        id="j",
        name="n",
        state=state,  # type: ignore[arg-type]
        queue="media",
        priority=5,
        payload={},
        max_attempts=3,
        backoff=Backoff(),
        created=NOW,
        correlationid="f",
        rules=Rules(**rules),  # type: ignore[arg-type]
    )


def after(*events: tuple[Event, float]) -> GateState:
    state = GateState(id="gate:rate:k")
    for event, at in events:
        when = NOW + at * SECOND
        envelope = wrap(event, id="e", subject=state.id, time=when, correlationid="f")
        state = evolve(state, event, envelope)
    return state


def test_a_job_passes_its_gates_in_one_order() -> None:
    all_of_them = job(
        tenant="a", limit=Limit(key="l", at_most=2), rate=Rate(key="r", at_most=1_000, per=60.0)
    )
    limit, rate, tenant = gates(all_of_them, lambda queue, tenant: 48)
    assert (limit.id, limit.capacity, limit.until) == ("gate:limit:l", 2, "end")
    assert (rate.id, rate.capacity, rate.at_most, rate.per) == ("gate:rate:r", 1_000, 1_000, 60.0)
    assert (tenant.id, tenant.capacity) == ("gate:tenant:media/a", 48)
    assert gates(job()) == []


def test_a_key_that_is_too_long_for_an_id_has_a_gate_of_its_own() -> None:
    a, b = (gate_id("tenant", "q" * 64 + "/" + "t" * 199 + end) for end in "ab")
    assert a != b and len(a) <= 256


def test_a_place_is_kept_as_long_as_the_kind_of_gate_says() -> None:
    [limit] = gates(job(limit=Limit(key="l", at_most=1)))
    [tenant] = gates(job(tenant="a"))
    for state, by_limit, by_tenant in (
        ("pending", True, True),
        ("processing", True, False),
        ("completed", False, False),
    ):
        assert keeps(job(state), limit, NOW) == by_limit
        assert keeps(job(state), tenant, NOW) == by_tenant


def test_a_rate_opens_when_the_oldest_that_began_is_long_ago() -> None:
    [gate] = gates(job(rate=Rate(key="k", at_most=2, per=10.0)))
    taken = (PlacesChanged(taken=("0", "1")), 0.0)
    began = [
        (PlacesChanged(freed=(f"{n}",), began=1, at=NOW + n * SECOND, per=10.0), n + 0.5)
        for n in range(2)
    ]
    assert opens(after(taken), gate, NOW + 300 * SECOND) is None  # both wait for a worker
    one = after(taken, began[0])
    assert opens(one, gate, NOW + 3 * SECOND) == NOW + 10 * SECOND  # for one of them
    both = after(taken, *began)
    assert opens(both, gate, NOW + 3 * SECOND) == NOW + 10 * SECOND
    assert opens(both, gate, NOW + 10 * SECOND) == NOW + 10 * SECOND
    third = PlacesChanged(freed=("2",), began=1, at=NOW + 10 * SECOND, per=10.0)
    assert opens(after(taken, *began, (third, 10.0)), gate, NOW) == NOW + 11 * SECOND


def test_what_was_stored_before_folds_as_it_did() -> None:
    gate = gates(job(rate=Rate(key="k", at_most=2, per=10.0)))[0]
    taken = [(PlaceTaken(job=f"{n}", kept=2), float(n)) for n in range(3)]
    state = after(*taken, (PlaceFreed(job="0"), 3.0))
    assert state.holders == {"1": NOW + SECOND, "2": NOW + 2 * SECOND}
    assert opens(after(*taken, *[(PlaceFreed(job=f"{n}"), 3.0) for n in range(3)]), gate, NOW) == (
        NOW + 11 * SECOND
    )


def test_a_rate_tells_no_more_than_so_many_moments_apart_and_forgets_none_too_soon() -> None:
    [gate] = gates(job(rate=Rate(key="k", at_most=500, per=10.0)))
    began = [
        (PlacesChanged(began=1, at=NOW + n * 0.01 * SECOND, per=10.0), 0.0) for n in range(600)
    ]
    state = after(*began)
    assert len(state.began) <= MOMENTS
    for at in (9.0, 11.0, 13.0, 15.0):
        exact = sum(NOW + at * SECOND - data.at < 10 * SECOND for data, _ in began if data.at)
        assert exact <= lately(state, gate, NOW + at * SECOND) <= exact + 10


class Running:
    """Counts how many run at a time."""

    def __init__(self) -> None:
        self.now = self.most = self.done = 0
        self.starts = list[float]()

    async def __call__(self, seconds: float = 0.0) -> None:
        self.starts.append(time.monotonic())
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(seconds)
        self.now -= 1
        self.done += 1


async def two_workers(new_worker: NewWorker, serve: Serve, running: Running) -> Sequence[Worker]:
    workers = [new_worker(concurrency=10) for _ in range(2)]
    for worker in workers:

        @worker.register_handler("work")
        async def work(seconds: float = 0.0) -> None:
            await running(seconds)

        @worker.register_handler("pass")
        async def pass_() -> None: ...

        @worker.register_handler("boom")
        async def boom() -> None:
            raise ValueError("boom")

        await serve(worker)
    return workers


@pytest.fixture
async def second(system: Host, nats_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[Host]:
    """Another instance of the service."""
    async with running_system(nats_url, prefix, tmp_path / "second", {"jobs": build}) as host:
        yield host


async def test_no_more_than_the_limit_run_at_a_time_on_two_workers_and_two_instances(
    ps: Penstock, second: Host, serve: Serve, new_worker: NewWorker
) -> None:
    running = Running()
    await two_workers(new_worker, serve, running)
    jobs = await asyncio.gather(
        *(
            ps.jobs.enqueue("work", {"seconds": 0.05}, limit="customer:42", at_most=3)
            for _ in range(40)
        )
    )
    free = await ps.jobs.enqueue("pass")
    await ps.jobs.result(free.id, timeout=30)
    for one in jobs:
        await ps.jobs.result(one.id, timeout=60)
    assert running.most == 3


async def test_two_instances_neither_lose_nor_double_a_place_at_several_gates(
    ps: Penstock, second: Host, serve: Serve, new_worker: NewWorker
) -> None:
    await two_workers(new_worker, serve, Running())
    rate = Rate(key="r", at_most=30, per=0.2)
    jobs = await asyncio.gather(
        *(
            ps.jobs.enqueue("pass", limit=f"l{n % 2}", at_most=3, rate=rate, tenant=f"t{n % 3}")
            for n in range(90)
        )
    )
    for one in jobs:
        await ps.jobs.result(one.id, timeout=30)
    [service] = second.services
    most = {"limit:l0": 3, "limit:l1": 3, "rate:r": 30}
    most |= {f"tenant:default/t{n}": MOST for n in range(3)}
    for gate, capacity in most.items():
        async with asyncio.timeout(60):
            while left := await held_at(service.log, f"gate:{gate}", capacity):
                await asyncio.sleep(0.1)
        assert not left


async def held_at(log: JetStreamEventLog, gate: str, most: int) -> int:
    """How many have a place at the end; there never may have been more than `most`."""
    state: GateState | None = None
    for record in (await log.load(gate)).events:
        state = evolve(state, unwrap(record.event), record.event)
        assert len(state.holders) <= most
    assert state is not None
    return len(state.holders)


async def test_a_place_is_free_again_after_a_failure_a_retry_and_a_cancel(
    ps: Penstock, serve: Serve, new_worker: NewWorker
) -> None:
    running = Running()
    retried = await ps.jobs.enqueue(
        "boom", limit="k", max_attempts=2, backoff=Backoff(initial=600.0, maximum=600.0)
    )
    failed = await ps.jobs.enqueue("boom", limit="k", max_attempts=1)
    cancelled = await ps.jobs.enqueue("work", limit="k")
    last = await ps.jobs.enqueue("work", limit="k")
    await ps.jobs.cancel(cancelled.id)
    await two_workers(new_worker, serve, running)
    await ps.jobs.result(last.id, timeout=60)
    assert await ps.jobs.get_status(retried.id) == "retrying"
    assert await ps.jobs.get_status(failed.id) == "failed"


async def test_the_highest_priority_goes_first_when_a_place_is_free(
    ps: Penstock, serve: Serve, new_worker: NewWorker
) -> None:
    order = list[int]()
    holding = await ps.jobs.enqueue("note", {"n": 0}, limit="k")
    low = await ps.jobs.enqueue("note", {"n": 1}, limit="k", priority=1)
    high = await ps.jobs.enqueue("note", {"n": 2}, limit="k", priority=9)
    worker = new_worker()

    @worker.register_handler("note")
    async def note(n: int) -> None:
        order.append(n)

    await serve(worker)
    for one in (holding, low, high):
        await ps.jobs.result(one.id, timeout=60)
    assert order == [0, 2, 1]


async def test_a_rate_holds_over_two_workers(
    ps: Penstock, serve: Serve, new_worker: NewWorker
) -> None:
    running = Running()
    await two_workers(new_worker, serve, running)
    rate = Rate(key="api", at_most=5, per=1.0)
    jobs = await asyncio.gather(*(ps.jobs.enqueue("work", rate=rate) for _ in range(15)))
    for one in jobs:
        await ps.jobs.result(one.id, timeout=60)
    states = [await ps.jobs.get(one.id) for one in jobs]
    starts = sorted(state.started for state in states if state.started)
    assert len(starts) == 15
    assert starts[-1] - starts[0] >= 1.5 * SECOND  # three rounds
    for n in range(len(starts) - 5):
        assert starts[n + 5] - starts[n] >= SECOND


async def test_what_waited_for_a_worker_does_not_begin_in_a_burst(
    ps: Penstock, serve: Serve, new_worker: NewWorker
) -> None:
    rate = Rate(key="api", at_most=3, per=0.5)
    jobs = [await ps.jobs.enqueue("pass", rate=rate) for _ in range(9)]
    await asyncio.sleep(0.6)  # the first ones were offered longer ago than the rate looks back
    await two_workers(new_worker, serve, Running())
    for one in jobs:
        await ps.jobs.result(one.id, timeout=60)
    states = [await ps.jobs.get(one.id) for one in jobs]
    starts = sorted(state.started for state in states if state.started)
    for n in range(len(starts) - 3):
        assert starts[n + 3] - starts[n] >= 0.5 * SECOND


async def test_a_job_that_waits_for_its_rate_holds_no_place_in_its_limit(
    ps: Penstock, serve: Serve, new_worker: NewWorker
) -> None:
    await two_workers(new_worker, serve, Running())
    rate = Rate(key="api", at_most=1, per=600.0)
    first = await ps.jobs.enqueue("pass", limit="db", at_most=1, rate=rate)
    await ps.jobs.result(first.id, timeout=60)
    waits = await ps.jobs.enqueue("pass", limit="db", at_most=1, rate=rate)
    others = [await ps.jobs.enqueue("pass", limit="db", at_most=1) for _ in range(3)]
    for one in others:
        await ps.jobs.result(one.id, timeout=60)
    async with asyncio.timeout(60):
        while (await ps.jobs.why(waits.id)).waits_for != ("rate",):
            await asyncio.sleep(0.02)  # the last one's end is settled


async def test_who_waited_for_a_rate_takes_its_turn_at_the_limit_once_that_opens(
    ps: Penstock, serve: Serve, new_worker: NewWorker
) -> None:
    order = list[int]()
    worker = new_worker()

    @worker.register_handler("note")
    async def note(n: int) -> None:
        order.append(n)
        await asyncio.sleep(0.1)

    rate = Rate(key="api", at_most=1, per=1.0)
    first = await ps.jobs.enqueue("note", {"n": 0}, rate=rate, limit="db", at_most=1)
    waits = await ps.jobs.enqueue("note", {"n": 1}, rate=rate, limit="db", at_most=1)
    others = [await ps.jobs.enqueue("note", {"n": n}, limit="db", at_most=1) for n in range(2, 30)]
    await serve(worker)
    for one in (first, waits, *others):
        await ps.jobs.result(one.id, timeout=60)
    assert order[0] == 0
    began, next_began = [(await ps.jobs.get(job.id)).started for job in (first, waits)]
    assert began and next_began and next_began - began >= SECOND
    assert order.index(1) <= 20  # not behind all of them
    assert [n for n in order if n > 1] == list(range(2, 30))


async def test_a_job_that_is_given_back_waits_for_its_tenants_turn_without_its_place_in_a_limit(
    ps: Penstock, system: Host
) -> None:
    [jobs] = system.services
    places, tenant = Gates(jobs.bus, jobs.log, jobs.decider.load), gate_id("tenant", "default/a")
    given = await ps.jobs.enqueue("pass", limit="k", at_most=1, tenant="a")
    item = await work_item(ps, given)
    await places.know([tenant])
    others = tuple(f"other-{n}" for n in range(WINDOW))
    full = {tenant: (PlacesChanged(freed=(given.id,), taken=others), "f")}
    assert await places.store(full, datetime.now(UTC))
    started = JobStarted(attempt=1, worker="w", item=item)
    released = JobReleased(attempt=1, worker="w", item=item, reason="it shuts down")
    await left(ps, given, started, released)
    next_one = await ps.jobs.enqueue("pass", limit="k", at_most=1)
    assert (await ps.jobs.why(next_one.id)).waits_for == ("limit",)
    await ps.session.command(SettleJob(), id=given.id)
    async with asyncio.timeout(60):
        while (await ps.jobs.why(next_one.id)).waits_for != ("worker",):
            await asyncio.sleep(0.02)  # the view follows


def test_what_of_several_gates_is_linked_by_a_job_is_stored_together() -> None:
    assert linked("abcd", []) == [["a"], ["b"], ["c"], ["d"]]
    assert linked("abcd", [["a", "c"], ["b", "d"]]) == [["a", "c"], ["b", "d"]]
    assert linked("abcd", [["a", "c"], ["c", "d"], ["z", "d"]]) == [["a", "c", "d"], ["b"]]


def round_at(**states: GateState) -> Round:
    return Round(states.get, NOW)


def test_in_a_round_no_more_get_in_than_have_places() -> None:
    gate = Gate("k", 2, "end")
    round = round_at(k=GateState(id="k", holders={"a": NOW, "b": NOW}))
    assert round.closed([gate], "c") == [gate]
    assert round.closed([gate], "a") == []  # it has one
    assert round.free(gate, "a") and not round.free(gate, "a")
    assert round.closed([gate], "c") == []
    round.take([gate], "c")
    assert round.closed([gate], "d") == [gate]
    change = round.changes()["k"]
    assert (change.event.freed, change.event.taken) == (("a",), ("c",))


def test_in_a_round_those_who_began_and_those_who_may_count_for_a_rate() -> None:
    gate = Gate("k", 3, "start", at_most=3, per=10.0)
    began = (Began(NOW - SECOND, 1), Began(NOW - 10 * SECOND, 7))
    round = round_at(k=GateState(id="k", holders={"a": NOW}, began=began))
    assert round.room(gate) == 1
    assert round.free(gate, "a", NOW)  # it began: that makes no room
    assert round.room(gate) == 1
    round.take([gate], "b")
    assert round.closed([gate], "c") == [gate]
    event = round.changes()["k"].event
    assert (event.began, event.at, event.per) == (1, NOW, 10.0)


async def test_a_delayed_job_waits_for_a_place_when_its_time_comes(
    ps: Penstock, serve: Serve, new_worker: NewWorker
) -> None:
    running = Running()
    jobs = [await ps.jobs.enqueue("work", {"seconds": 0.2}, limit="k", delay=0.5) for _ in range(3)]
    await two_workers(new_worker, serve, running)
    for one in jobs:
        await ps.jobs.result(one.id, timeout=60)
    assert running.most == 1


async def test_a_job_that_was_let_in_and_never_offered_is_found(
    ps: Penstock, system: Host, serve: Serve, new_worker: NewWorker
) -> None:
    """Its place is stored, and who stored it died then."""
    running = Running()
    await ps.jobs.enqueue("nobody-knows-it", limit="k")
    waits = await ps.jobs.enqueue("work", limit="k")
    [jobs] = system.services
    places, gate = Gates(jobs.bus, jobs.log, jobs.decider.load), gate_id("limit", "k")
    await places.know([gate])
    taken = {gate: (PlacesChanged(taken=(waits.id,)), "f")}
    assert await places.store(taken, datetime.now(UTC))
    await two_workers(new_worker, serve, running)
    await ps.jobs.result(waits.id, timeout=60)


async def test_an_erased_job_leaves_its_place(
    ps: Penstock, serve: Serve, new_worker: NewWorker
) -> None:
    running = Running()
    erased = await ps.jobs.enqueue("work", limit="k")
    waits = await ps.jobs.enqueue("work", limit="k")
    await ps.session.command(ERASE["jobs"](reason="asked for"), id=erased.id)
    await two_workers(new_worker, serve, running)
    await ps.jobs.result(waits.id, timeout=60)


async def test_a_job_that_does_not_start_tells_what_it_waits_for(ps: Penstock) -> None:
    first = await ps.jobs.enqueue("work", limit="k", queue="media", rate=Rate(key="r", at_most=1))
    assert (await ps.jobs.why(first.id)).waits_for == ("worker",)
    limited = await ps.jobs.enqueue("work", limit="k")
    rated = await ps.jobs.enqueue("work", rate=Rate(key="r", at_most=1, per=600.0))
    later = await ps.jobs.enqueue("work", delay=600)
    assert (await ps.jobs.why(limited.id)).waits_for == ("limit",)
    assert (await ps.jobs.why(rated.id)).waits_for == ("rate",)
    assert (await ps.jobs.why(later.id)).waits_for == ("time",)
    await ps.queues.pause("media", "too hot")
    told = await ps.jobs.why(first.id)
    assert told.waits_for == ("queue",)
    assert told.because == (
        "The queue 'media' is paused (too hot): `penstock queues resume media`.",
    )
    await ps.jobs.cancel(later.id)
    assert (await ps.jobs.why(later.id)).waits_for == ()
