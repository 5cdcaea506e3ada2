"""Queues paused, drained and purged, over a real server and with real workers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from penstock.cli.queues import rows
from penstock.client import JobSpec, Penstock, Refused, Rules, Worker
from penstock.client.worker.worker import lane
from penstock.contracts.envelope import unwrap, wrap
from penstock.contracts.errors import InvalidMessage
from penstock.contracts.gates import gate_id
from penstock.contracts.jobs import Limit
from penstock.contracts.queues import (
    DrainQueue,
    PauseQueue,
    PurgeQueue,
    QueueDraining,
    QueuePaused,
    QueuePurged,
    QueueResumed,
    QueueState,
    QueueWeighed,
    ResumeQueue,
    SetWeight,
    queue_id,
)
from penstock.infra.deciding.decider import Context
from penstock.infra.event_log import JetStreamEventLog
from penstock.infra.host import Host
from penstock.infra.testing import running_system
from penstock.jobs.queue import decide, evolve
from penstock.jobs.queue_lanes import lane_name
from penstock.jobs.service import build
from support.workers import NewWorker, Serve, nothing_left

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


def context(subject: str = "queue:media") -> Context:
    command = wrap(PauseQueue(), id="c", subject=subject, time=NOW, correlationid="f")
    return Context(NOW, command)


def after(*events: object) -> QueueState | None:
    state = None
    for event in events:
        envelope = wrap(event, id="e", subject="queue:media", time=NOW, correlationid="f")  # type: ignore[arg-type]
        state = evolve(state, event, envelope)  # type: ignore[arg-type]
    return state


def test_what_is_so_already_causes_no_event() -> None:
    assert decide(None, PauseQueue(), context()) == [QueuePaused()]
    assert decide(after(QueuePaused()), PauseQueue(), context()) == []
    assert decide(None, ResumeQueue(), context()) == []
    assert decide(after(QueuePaused()), ResumeQueue(), context()) == [QueueResumed()]
    assert decide(after(QueueDraining()), ResumeQueue(), context()) == [QueueResumed()]
    assert decide(after(QueueDraining()), DrainQueue(), context()) == []
    assert decide(after(QueuePurged()), PurgeQueue(), context()) == [QueuePurged()]
    weighed = QueueWeighed(tenant="a", weight=3)
    assert decide(None, SetWeight(tenant="a", weight=1), context()) == []
    assert decide(after(weighed), SetWeight(tenant="a", weight=3), context()) == []
    state = after(weighed, QueueWeighed(tenant="a", weight=1))
    assert state and state.weights == {}


def test_a_name_that_no_job_can_have_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="1 to 64 characters"):
        decide(None, PauseQueue(), context("queue:" + "x" * 65))


def test_the_lanes_are_those_of_the_workers(ps: Penstock) -> None:
    assert lane(ps.session.bus.subjects, "a b", 3).consumer == lane_name("a b", 3)


async def test_a_paused_queue_gives_nothing_out_until_it_is_resumed(
    ps: Penstock, serve: Serve, new_worker: NewWorker
) -> None:
    began, go = asyncio.Event(), asyncio.Event()
    worker, seen = new_worker(queues=["media", "other"]), list[str]()

    @worker.register_handler("note")
    async def note(id: str, wait: bool = False) -> None:
        seen.append(id)
        if wait:
            began.set()
            await go.wait()

    await serve(worker)
    running = await ps.jobs.enqueue("note", {"id": "runs", "wait": True}, queue="media")
    await began.wait()
    assert (await ps.queues.pause("media", "too hot")).paused
    held = [
        await ps.jobs.enqueue("note", {"id": "held"}, queue="media", priority=p) for p in (0, 9)
    ]
    other = await ps.jobs.enqueue("note", {"id": "other"}, queue="other")
    await ps.jobs.result(other.id)
    go.set()
    await ps.jobs.result(running.id)  # what runs comes to its end
    assert [await ps.jobs.get_status(job.id) for job in held] == ["pending"] * 2
    assert seen == ["runs", "other"]
    [state] = await ps.queues.list()
    assert (state.name, state.paused, state.reason) == ("media", True, "too hot")
    await ps.queues.resume("media")
    for job in held:
        await ps.jobs.result(job.id, timeout=60)
    assert worker.problem() is None


async def test_a_pause_holds_for_lanes_that_are_made_anew(
    ps: Penstock, serve: Serve, new_worker: NewWorker
) -> None:
    await ps.queues.pause("media")
    bus = ps.session.bus
    stream = bus.subjects.stream("work")
    await bus.api(f"CONSUMER.DELETE.{stream}.media-5")
    async with asyncio.timeout(60):
        while not await is_paused(ps, "media-5"):
            await asyncio.sleep(0.05)
    worker = new_worker(queues=["media"], lease=9.0)  # asks for another acknowledgement time

    @worker.register_handler("note")
    async def note() -> None: ...

    await serve(worker)
    assert all([await is_paused(ps, lane_name("media", p)) for p in range(10)])
    job = await ps.jobs.enqueue("note", queue="media")
    await ps.queues.resume("media")
    await ps.jobs.result(job.id, timeout=60)


async def is_paused(ps: Penstock, consumer: str) -> bool:
    bus = ps.session.bus
    names = {"stream": bus.subjects.stream("work"), "consumer": consumer}
    found = await bus.api("CONSUMER.LIST.{stream}".format(**names))
    return any(one["name"] == consumer and one.get("paused") for one in found["consumers"])


async def test_a_drained_queue_takes_no_new_job_and_works_off_the_others(
    ps: Penstock, serve: Serve, new_worker: NewWorker
) -> None:
    there = await ps.jobs.enqueue("note", id="there", queue="media")
    await ps.queues.drain("media", "moves house")
    with pytest.raises(Refused, match=r"'media' is drained \(moves house\) and takes no new jobs"):
        await ps.jobs.enqueue("note", queue="media")
    again = await ps.jobs.enqueue("note", id="there", queue="media")
    assert again.id == there.id  # it is there already
    worker: Worker = new_worker(queues=["media"])

    @worker.register_handler("note")
    async def note() -> None: ...

    await serve(worker)
    await ps.jobs.result("there", timeout=60)
    await ps.queues.resume("media")
    await ps.jobs.result((await ps.jobs.enqueue("note", queue="media")).id, timeout=10)


async def test_another_instance_learns_of_a_drain_and_a_restarted_one_knows_it(
    ps: Penstock, system: Host, nats_url: str, prefix: str, tmp_path: Path
) -> None:
    await ps.queues.drain("media")
    await system.drain()
    async with running_system(nats_url, prefix, tmp_path / "2", {"jobs": build}):
        async with asyncio.timeout(60):
            while True:
                try:
                    await ps.jobs.enqueue("note", queue="media")
                except Refused:
                    break
                await asyncio.sleep(0.05)


async def test_a_purge_cancels_what_waits_and_leaves_what_runs(
    ps: Penstock, serve: Serve, new_worker: NewWorker
) -> None:
    began, go = asyncio.Event(), asyncio.Event()
    worker = new_worker(queues=["media"], concurrency=1)

    @worker.register_handler("note")
    async def note() -> None:
        began.set()
        await go.wait()

    await serve(worker)
    running = await ps.jobs.enqueue("note", queue="media", priority=9)
    await began.wait()
    waiting = [await ps.jobs.enqueue("note", queue="media") for _ in range(5)]
    delayed = await ps.jobs.enqueue("note", queue="media", delay=3600)
    other = await ps.jobs.enqueue("note", queue="other")
    purged = await ps.queues.purge("media", command_id="p-1")
    assert purged.purged
    for job in (*waiting, delayed):
        state = await ps.jobs.get(job.id)
        assert (state.state, state.reason) == ("cancelled", "the queue 'media' was purged")
    assert await ps.jobs.get_status(other.id) == "pending"
    later = await ps.jobs.enqueue("note", queue="media")
    await ps.queues.purge("media", command_id="p-1")  # the same one, not another one
    go.set()
    await ps.jobs.result(running.id, timeout=60)
    await ps.jobs.result(later.id, timeout=60)
    await ps.jobs.cancel(other.id)
    await nothing_left(ps)


async def test_what_is_read_after_a_purge_reflects_every_cancellation(ps: Penstock) -> None:
    jobs = [await ps.jobs.enqueue("note", queue="media") for _ in range(3)]
    outcome = await ps.session.command(PurgeQueue(), id=queue_id("media"))
    ends = [(await ps.jobs.history(job.id))[-1] for job in jobs]
    assert {end.type for end in ends} == {"penstock.jobs.cancelled.v1"}
    assert outcome.sequence == max(end.sequence for end in ends)


async def test_a_purge_lets_nobody_in_where_the_purged_ones_had_places(ps: Penstock) -> None:
    rules = Rules(limit=Limit(key="k", at_most=3))
    specs = [JobSpec(name="note", queue="media", rules=rules) for _ in range(400)]
    ids = [told.id async for told in ps.jobs.enqueue_many(specs)]
    await ps.queues.purge("media")
    assert {await ps.jobs.get_status(id) for id in ids[::40]} == {"cancelled"}
    gate = await JetStreamEventLog(ps.session.bus, "jobs").load(gate_id("limit", "k"))
    changes = [unwrap(record.event) for record in gate.events]
    assert sum(len(change.taken) for change in changes) == 3
    assert sum(len(change.freed) for change in changes) == 3
    await nothing_left(ps)


async def test_a_list_tells_of_depths_and_states_together(ps: Penstock) -> None:
    await ps.jobs.enqueue("note", queue="a", priority=1)
    await ps.jobs.enqueue("note", queue="a", delay=3600)
    await ps.queues.set_weight("b", "tenant-1", 3)
    whole, named, other = rows(await ps.jobs.metrics(), await ps.queues.list())
    assert (whole.queue, whole.name, whole.waiting, whole.delayed) == ("a", None, 1, 1)
    assert (named.queue, named.name, whole.paused) == ("a", "note", False)
    assert (other.queue, other.waiting, other.weights) == ("b", 0, {"tenant-1": 3})
