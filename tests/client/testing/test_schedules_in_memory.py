"""Schedules under the virtual clock."""

from __future__ import annotations

import builtins
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from penstock.client import Handlers, JobContext
from penstock.client.testing import NotInMemory, TestSystem
from penstock.contracts.errors import StartupError

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
    handlers = Handlers()

    @handlers.handler
    async def failing() -> None:
        raise OSError("always")

    async with TestSystem(handlers, start=START) as ps:
        await ps.schedules.put("kept", "missing", cron="@hourly", overlap="skip")
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


async def test_it_is_told_how_to_get_what_schedules_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real_import = builtins.__import__

    def importing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "cronsim":
            raise ModuleNotFoundError("No module named 'cronsim'", name="cronsim")
        return real_import(name, *args, **kwargs)

    for name in [name for name in sys.modules if name.startswith("penstock.jobs")]:
        monkeypatch.delitem(sys.modules, name)
    import penstock.jobs

    monkeypatch.delattr(penstock.jobs, "domain", raising=False)
    monkeypatch.setattr(builtins, "__import__", importing)
    with pytest.raises(StartupError, match=r"pip install 'penstock\[jobs\]'"):
        TestSystem(Handlers())


async def test_rules_that_are_not_there_are_named() -> None:
    from penstock.contracts.jobs import Limit, Rules

    handlers, _ = counting()
    async with TestSystem(handlers) as ps:
        rules = Rules(limit=Limit(key="k", at_most=1))
        with pytest.raises(NotInMemory, match="limits"):
            await ps.schedules.put("limited", "report", every=600, rules=rules)
