"""Schedules that stand above their handlers: put when a worker starts, however many start."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from penstock.client import Handlers, Penstock, Worker
from penstock.client.worker.declared import put_all
from penstock.contracts.errors import InvalidMessage
from penstock.infra.testing import running_system
from penstock.jobs.service import build
from support.waiting import up_to_date
from support.workers import NewWorker


def reporting(new_worker: NewWorker, cron: str = "0 2 * * *") -> Worker:
    """A worker that declares the schedule `report`."""
    worker = new_worker()

    @worker.schedule(cron, timezone="Europe/Berlin", payload={"of": "day"}, missed="all", most=3)
    @worker.register_handler("report")
    async def report(of: str) -> str:
        return of

    return worker


async def puts(ps: Penstock, name: str) -> int:
    """How often a schedule took another form."""
    history = await ps.schedules.history(name)
    return sum(entry.type.split(".")[2] == "schedule_put" for entry in history)


async def test_workers_that_declare_the_same_schedule_make_one(
    ps: Penstock, new_worker: NewWorker
) -> None:
    async with reporting(new_worker), reporting(new_worker):
        await up_to_date(ps)
        state = await ps.schedules.get("report")
    assert (state.job.name, state.job.payload) == ("report", {"of": "day"})
    assert (state.timing.cron, state.timing.timezone) == ("0 2 * * *", "Europe/Berlin")
    assert (state.missed, state.most, await puts(ps, "report")) == ("all", 3, 1)


async def test_another_declaration_changes_the_schedule_and_says_so(
    ps: Penstock, new_worker: NewWorker, caplog: pytest.LogCaptureFixture
) -> None:
    async with reporting(new_worker):
        await ps.schedules.pause("report")
    async with reporting(new_worker):
        assert "declared otherwise" not in caplog.text
    with caplog.at_level(logging.WARNING):
        async with reporting(new_worker, "0 3 * * *"):
            await up_to_date(ps)
            state = await ps.schedules.get("report")
    assert "schedule 'report' is declared otherwise" in caplog.text
    assert (state.timing.cron, state.paused, await puts(ps, "report")) == ("0 3 * * *", True, 2)


async def test_the_handler_runs_at_its_ticks(ps: Penstock, new_worker: NewWorker) -> None:
    worker, ran = new_worker(), asyncio.Event()

    @worker.schedule(every=1)
    async def tick() -> None:
        ran.set()

    async with worker, asyncio.timeout(60):
        await ran.wait()
    await ps.schedules.delete("tick")


async def test_a_schedule_that_is_declared_no_longer_stays_until_it_is_deleted(
    ps: Penstock, new_worker: NewWorker
) -> None:
    async with reporting(new_worker):
        pass
    async with new_worker():
        await up_to_date(ps)
        assert not (await ps.schedules.get("report")).deleted


async def test_a_worker_with_times_that_cannot_be_does_not_start_and_says_why(
    ps: Penstock, new_worker: NewWorker
) -> None:
    with pytest.raises(InvalidMessage, match="61 2"):
        async with reporting(new_worker, "61 2 * * *"):
            raise AssertionError("it does not start")


async def test_a_schedule_is_put_later_by_a_service_that_does_not_run_yet(
    nats_url: str, prefix: str, tmp_path: Path, new_worker: NewWorker
) -> None:
    async with running_system(nats_url, prefix, tmp_path, {"jobs": build}):
        pass
    async with Penstock(nats_url, prefix=prefix) as ps:
        await put_all(ps.session, reporting(new_worker).schedules, wait=0.1)
        async with running_system(nats_url, prefix, tmp_path, {"jobs": build}):
            async for state in ps.schedules.watch("report"):
                assert state.timing.cron == "0 2 * * *"
                return


def test_one_name_is_one_schedule_in_a_program() -> None:
    handlers, others = Handlers(), Handlers()
    for one, at in ((handlers, "@daily"), (others, "@hourly")):

        @one.schedule(at, name="both", payload={"of": at})
        @one.register_handler(f"report-{at[1:]}")
        def report(of: str) -> None: ...

    with pytest.raises(ValueError, match="called 'both' and differ in name, payload, cron"):
        handlers.include(others)


def test_a_handler_has_several_schedules_and_each_its_name() -> None:
    handlers = Handlers()

    @handlers.schedule("@daily", payload={"of": "day"})
    @handlers.schedule("@weekly", name="weekly", payload={"of": "week"})
    def report(of: str) -> None: ...

    assert [handler.name for handler in handlers] == ["report"]
    assert [declared.name for declared in handlers.schedules] == ["weekly", "report"]


def test_a_payload_that_the_handler_does_not_take_is_refused_where_it_is_declared() -> None:
    handlers = Handlers()
    with pytest.raises(InvalidMessage, match="of"):

        @handlers.schedule("@daily")
        def report(of: str) -> None: ...


def test_a_schedule_below_the_name_of_its_handler_is_refused() -> None:
    handlers = Handlers()
    with pytest.raises(TypeError, match="Say @schedule above"):

        @handlers.register_handler("report")
        @handlers.schedule("@daily")
        def nightly() -> None: ...
