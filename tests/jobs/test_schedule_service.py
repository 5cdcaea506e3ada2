"""Schedules as an application sees them, over a real server: each tick one job, at its time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from penstock.client import InvalidMessage, NotFound, Penstock
from penstock.contracts.dead import Letters
from penstock.contracts.schedules import ScheduleState, schedule_id, tick_id
from penstock.infra.dead_letters.office import DeadLetterOffice
from penstock.infra.host import Host
from penstock.infra.testing import running_system
from penstock.jobs.schedule_overdue import Overdue
from penstock.jobs.schedule_runner import ScheduleRunner
from penstock.jobs.service import build
from support.workers import event_names, stored

BUILDERS = {"jobs": build}
SECOND = timedelta(seconds=1)


async def ran(ps: Penstock, name: str, ticks: int) -> ScheduleState:
    """The schedule once so many ticks had jobs enqueued."""
    async with asyncio.timeout(60):
        async for state in ps.schedules.watch(name):
            if state.ran >= ticks:
                return state
    raise AssertionError("a watch has no end of its own")


async def go_off(ps: Penstock, name: str) -> None:
    """What the timer of a schedule says when it goes off, now."""
    bus, id = ps.session.bus, schedule_id(name)
    subject = bus.subjects.timer("jobs", id)
    [timer] = await bus.direct_get(bus.subjects.stream("sched"), {"last_by_subj": subject})
    await bus.publish_acked(bus.subjects.due("jobs", id), timer.data)


async def test_every_tick_has_a_job_with_its_time_for_an_id(ps: Penstock, system: Host) -> None:
    put = await ps.schedules.put("pulse", "beat", {"n": 1}, every=1, queue="hearts", tags=["t"])
    assert put.next
    state = await ran(ps, "pulse", 2)
    ids = [tick_id("pulse", put.next + n * SECOND) for n in range(2)]
    jobs = [await anext(ps.jobs.watch(id)) for id in ids]  # queued behind the tick
    assert [(job.name, job.queue, job.tags) for job in jobs] == [("beat", "hearts", ("t",))] * 2
    assert all(job.origin and job.origin.schedule == "pulse" for job in jobs)
    assert (state.last, state.last_job) == (put.next + SECOND, ids[1])
    assert state.next == put.next + 2 * SECOND
    flow = [entry.type for entry in await ps.flow(ids[0])]
    assert flow == ["penstock.jobs.schedule_ticked.v1", "penstock.jobs.queued.v1"]


async def test_a_paused_schedule_does_not_tick_and_goes_on_when_resumed(
    ps: Penstock, system: Host
) -> None:
    await ps.schedules.put("pulse", "beat", every=1)
    paused = await ps.schedules.pause("pulse", "too loud")
    assert (paused.next, paused.reason, await stored(ps, "sched")) == (None, "too loud", 0)
    assert [one.name for one in await ps.schedules.list(paused=True)] == ["pulse"]
    assert len(await ps.schedules.next_runs("pulse", 3)) == 3
    put_again = await ps.schedules.put("pulse", "beat louder", every=1)
    assert (put_again.paused, put_again.next, await stored(ps, "sched")) == (True, None, 0)
    resumed = await ps.schedules.resume("pulse")
    assert resumed.next and resumed.next > datetime.now(UTC) - SECOND
    state = await ran(ps, "pulse", 1)
    assert (await anext(ps.jobs.watch(state.last_job or ""))).name == "beat louder"


async def test_a_schedule_runs_now_once_for_each_command(ps: Penstock, system: Host) -> None:
    await ps.schedules.put("nightly", "report", cron="0 2 * * *", timezone="Europe/Berlin")
    job = await ps.schedules.trigger("nightly", command_id="c-1")
    assert await ps.schedules.trigger("nightly", command_id="c-1") == job
    assert await ps.schedules.trigger("nightly") != job
    assert await event_names(ps, job) == ["queued"]
    assert len(await ps.jobs.list(name="report")) == 2
    assert (await ps.schedules.get("nightly")).triggered == 2


async def test_a_deleted_schedule_is_no_more_and_may_be_put_anew(
    ps: Penstock, system: Host
) -> None:
    await ps.schedules.put("nightly", "report", cron="@daily")
    await ps.schedules.delete("nightly")
    assert (await ps.schedules.list(), await stored(ps, "sched")) == ([], 0)
    for asked in (ps.schedules.next_runs, ps.schedules.pause, ps.schedules.trigger):
        with pytest.raises(NotFound):
            await asked("nightly")
    anew = await ps.schedules.put("nightly", "report", cron="@daily")
    assert (anew.deleted, await stored(ps, "sched")) == (False, 1)


async def test_putting_the_same_again_changes_nothing(ps: Penstock, system: Host) -> None:
    first = await ps.schedules.put("nightly", "report", {"a": 1}, cron="@daily")
    assert await ps.schedules.put("nightly", "report", {"a": 1}, cron="@daily") == first
    assert len(await ps.schedules.history("nightly")) == 1


async def test_a_wrong_timing_is_refused_in_one_sentence(ps: Penstock, system: Host) -> None:
    with pytest.raises(InvalidMessage, match=r"bad hour; '0 9 \* \* 1-5' is 9:00 from Monday"):
        await ps.schedules.put("x", "y", cron="0 24 * * *")
    with pytest.raises(InvalidMessage, match="did you mean 'Europe/Berlin'"):
        await ps.schedules.put("x", "y", cron="@daily", timezone="Europe/Berln")
    with pytest.raises(InvalidMessage, match="cannot be a schedule's name"):
        await ps.schedules.put("x:y", "y", cron="@daily")
    with pytest.raises(InvalidMessage, match="whole number of seconds"):
        await ps.schedules.put("x", "y", every=0.5)


async def test_a_timer_that_comes_twice_or_too_late_makes_no_second_job(
    ps: Penstock, system: Host
) -> None:
    put = await ps.schedules.put("yearly", "report", cron="@yearly")
    bus, id = ps.session.bus, schedule_id("yearly")
    subject = bus.subjects.timer("jobs", id)
    [timer] = await bus.direct_get(bus.subjects.stream("sched"), {"last_by_subj": subject})
    for _ in range(3):
        await bus.publish_acked(bus.subjects.due("jobs", id), timer.data)
    state = await ran(ps, "yearly", 1)
    async with asyncio.timeout(60):
        while await stored(ps, "sched") > 1:
            await asyncio.sleep(0.02)
    assert await ps.schedules.get("yearly") == state
    assert put.next
    await anext(ps.jobs.watch(tick_id("yearly", put.next)))  # queued behind the tick
    assert [job.id for job in await ps.jobs.list(name="report")] == [tick_id("yearly", put.next)]
    assert state.next and state.next.year == put.next.year + 1


async def test_a_tick_passes_while_the_last_job_is_not_over(ps: Penstock, system: Host) -> None:
    await ps.schedules.put("yearly", "report", cron="@yearly", overlap="skip")
    for _ in range(2):
        before = (await ps.schedules.get("yearly")).next
        await go_off(ps, "yearly")
        async for state in ps.schedules.watch("yearly"):
            if state.next != before:
                break
    assert (state.ran, state.skipped) == (1, 1)
    await ps.jobs.cancel(state.last_job or "")
    await go_off(ps, "yearly")
    await ran(ps, "yearly", 2)


async def test_what_cannot_be_enqueued_is_a_dead_letter_and_the_schedule_goes_on(
    ps: Penstock, system: Host
) -> None:
    put = await ps.schedules.put("yearly", "report", cron="@yearly")
    assert put.next
    await ps.jobs.enqueue("another", id=tick_id("yearly", put.next))
    await go_off(ps, "yearly")
    state = await ran(ps, "yearly", 1)
    assert state.next and state.next > put.next
    async with asyncio.timeout(60):
        while not (letters := [one async for one in letters_of(ps)]):
            await asyncio.sleep(0.02)
    assert [one.letter.id for one in letters] == [tick_id("yearly", put.next)]


def letters_of(ps: Penstock) -> Any:
    return DeadLetterOffice(ps.session.bus).newest_first(Letters(kind="command"))


async def test_http_lists_and_shows_schedules(ps: Penstock, system: Host) -> None:
    data = {"job": {"name": "report"}, "timing": {"cron": "@every 90m"}}
    async with aiohttp.ClientSession(system.http_url) as http:
        command = {"id": "schedule:often", "data": data}
        async with http.post("/commands/jobs/put_schedule?wait=10", json=command) as response:
            assert (await response.json())["data"]["timing"]["every"] == 5400

        async def get(path: str) -> Any:
            async with http.get(path) as response:
                return (await response.json())["data"]

        assert [one["name"] for one in await get("/jobs/schedules?min_seq=1")] == ["often"]
        shown = await get("/jobs/schedules/often?next=3")
        assert (shown["schedule"]["name"], len(shown["next_runs"])) == ("often", 3)
        assert (await get("/jobs/schedule:often"))["type"] == "schedule"


async def test_a_schedule_whose_timer_was_lost_is_found_and_goes_on(
    ps: Penstock, system: Host
) -> None:
    put = await ps.schedules.put("pulse", "beat", every=1)
    bus = ps.session.bus
    await bus.api(f"STREAM.PURGE.{bus.subjects.stream('sched')}")
    [jobs] = system.services
    runner = ScheduleRunner(jobs.bus, jobs.log, jobs.decider.load, jobs.decider.handle)
    overdue = Overdue(lambda: jobs.model, runner.reconcile, late=0.0)
    async with asyncio.timeout(60):
        while (await ps.schedules.get("pulse")).next == put.next:
            await overdue.look()
            await asyncio.sleep(0.05)
    await ran(ps, "pulse", 2)


@pytest.mark.parametrize(("missed", "jobs"), [("latest", 1), ("all", 2)])
async def test_ticks_while_no_service_ran_are_made_up_for_as_the_schedule_says(
    nats_url: str, prefix: str, tmp_path: Path, missed: Any, jobs: int
) -> None:
    async with Penstock(nats_url, prefix=prefix) as ps:
        async with running_system(nats_url, prefix, tmp_path / "1", BUILDERS):
            put = await ps.schedules.put("pulse", "beat", every=1, missed=missed, most=2)
            await ran(ps, "pulse", 1)
            before = (await ps.schedules.get("pulse")).ran
        assert put.next
        async with asyncio.timeout(60):
            while datetime.now(UTC) < put.next + (before + 2) * SECOND:
                await asyncio.sleep(0.05)
        async with running_system(nats_url, prefix, tmp_path / "2", BUILDERS):
            state = await ran(ps, "pulse", before + jobs)
            await ps.schedules.pause("pulse")
            ticked = [
                entry.data
                for entry in await ps.schedules.history("pulse")
                if entry.type == "penstock.jobs.schedule_ticked.v1"
            ]
            made_up = next(data for data in ticked if data.get("skipped"))
            assert len(made_up["run"]) == jobs
            assert state.skipped >= 1


async def test_a_timer_of_a_schedule_is_set_again_after_a_restore(
    nats_url: str, prefix: str, tmp_path: Path
) -> None:
    async with (
        Penstock(nats_url, prefix=prefix) as ps,
        running_system(nats_url, prefix, tmp_path, BUILDERS) as host,
    ):
        put = await ps.schedules.put("yearly", "report", cron="@yearly")
        bus = ps.session.bus
        await bus.api(f"STREAM.PURGE.{bus.subjects.stream('sched')}")
        [jobs] = host.services
        assert jobs.reconcile
        await jobs.projector.reach_end()
        await jobs.reconcile()
        subject = bus.subjects.timer("jobs", put.id)
        [timer] = await bus.direct_get(bus.subjects.stream("sched"), {"last_by_subj": subject})
        assert msgspec.json.decode(timer.data)["data"]["sequence"] == 1
        assert timer.headers["Nats-Schedule"] == f"@at {put.next:%Y-%m-%dT%H:%M:%SZ}"
