"""Schedules under the virtual clock."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

from penstock.client import Handlers, JobContext
from penstock.client.testing import TestSystem
from penstock.contracts.jobs import Rate, Rules

START = datetime(2026, 3, 1, tzinfo=UTC)


def counting() -> tuple[Handlers, list[str]]:
    handlers, ran = Handlers(), list[str]()

    @handlers.handler
    async def report(ctx: JobContext) -> None:
        ran.append(ctx.id)

    return handlers, ran


async def test_a_year_of_an_hourly_schedule_runs_every_hour() -> None:
    handlers, ran = counting()
    async with TestSystem(handlers, start=START) as ps:
        await ps.schedules.put("hourly", "report", cron="0 * * * *")
        await ps.advance(days=365)
        assert (len(ran), len(set(ran))) == (365 * 24, 365 * 24)
        assert (await ps.schedules.get("hourly")).ran == 365 * 24


async def test_a_schedule_that_is_declared_beside_its_handler_runs() -> None:
    handlers, ran = Handlers(), list[str]()

    @handlers.schedule("@daily", payload={"of": "day"})
    def report(of: str) -> None:
        ran.append(of)

    async with TestSystem(handlers, start=START) as ps:
        await ps.advance(days=7)
    assert ran == ["day"] * 7


async def test_a_tick_is_in_the_time_of_its_zone() -> None:
    handlers, ran = counting()
    async with TestSystem(handlers, start=START) as ps:
        await ps.schedules.put("early", "report", cron="0 9 * * *", timezone="Europe/Berlin")
        await ps.advance(days=31)
        assert ran[0] == "early@20260301T080000Z"
        assert ran[-1] == "early@20260331T070000Z"  # summer time since the 29th


async def test_a_paused_schedule_does_not_tick_and_goes_on_once_resumed() -> None:
    handlers, ran = counting()
    async with TestSystem(handlers, start=START) as ps:
        await ps.schedules.put("often", "report", every=600)
        await ps.advance(minutes=25)
        await ps.schedules.pause("often")
        await ps.advance(hours=1)
        assert len(ran) == 2
        await ps.schedules.resume("often")
        await ps.advance(minutes=10)
        assert len(ran) == 3
        await ps.schedules.delete("often")
        await ps.advance(days=1)
        assert len(ran) == 3


async def test_a_schedule_put_anew_ticks_at_its_new_times_only() -> None:
    handlers, ran = counting()
    async with TestSystem(handlers, start=START) as ps:
        await ps.schedules.put("changed", "report", every=600)
        await ps.schedules.put("changed", "report", every=3600)
        await ps.advance(hours=2)
        assert ran == ["changed@20260301T010000Z", "changed@20260301T020000Z"]


async def test_a_tick_passes_while_the_last_job_is_not_over() -> None:
    async with TestSystem(Handlers(), start=START) as ps:
        await ps.schedules.put("kept", "unhandled", cron="@hourly", overlap="skip")
        await ps.advance(hours=3)
        state = await ps.schedules.get("kept")
        assert (state.ran, state.skipped) == (1, 2)


async def test_the_job_of_a_tick_waits_for_its_jitter() -> None:
    handlers, ran = counting()
    async with TestSystem(handlers, start=START) as ps:
        await ps.schedules.put("spread", "report", every=3600, jitter=600)
        await ps.advance(hours=1)
        assert ran == []
        await ps.advance(minutes=10)
        assert len(ran) == 1


def test_it_is_told_how_to_get_what_schedules_need() -> None:
    program = """
import sys
sys.modules["cronsim"] = None  # as if it were not installed
from penstock.client import Handlers
from penstock.client.testing import TestSystem
from penstock.contracts.errors import StartupError
try:
    TestSystem(Handlers())
except StartupError as error:
    print(error)
"""
    run = [sys.executable, "-c", program]
    said = subprocess.run(run, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "pip install 'penstock[jobs]'" in said


async def test_the_jobs_of_a_schedule_keep_its_rules() -> None:
    handlers, ran = counting()
    async with TestSystem(handlers, start=START) as ps:
        rules = Rules(rate=Rate(key="k", at_most=1, per=900))
        await ps.schedules.put("limited", "report", every=600, rules=rules)
        await ps.advance(minutes=24)
        assert ran == ["limited@20260301T001000Z"]
        await ps.advance(minutes=1)
        assert len(ran) == 2
