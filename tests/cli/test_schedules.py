"""`penstock schedules` against a running system, in the test's own process."""

from __future__ import annotations

import asyncio
import io
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import msgspec
import pytest

from penstock.cli.main import main
from penstock.infra.testing import running_system
from penstock.jobs.service import build
from support.command_line import assert_one_clear_line

Schedules = Callable[..., Awaitable[subprocess.CompletedProcess[str]]]
NIGHTLY = ("nightly", "report", '{"kind": "sums"}', "--cron", "0 2 * * *")


@pytest.fixture
async def schedules(
    nats_url: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Schedules]:
    """Runs `penstock schedules` with some arguments."""
    monkeypatch.setenv("PENSTOCK_NATS_URL", nats_url)
    monkeypatch.setenv("PENSTOCK_PREFIX", prefix)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            status = main(["schedules", *arguments])
        return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())

    async def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(run, *arguments)

    async with running_system(nats_url, prefix, tmp_path, {"jobs": build}):
        yield call


async def test_a_schedule_is_put_listed_shown_and_deleted(schedules: Schedules) -> None:
    put = await schedules("put", *NIGHTLY, "--timezone", "Europe/Berlin", "--missed", "all")
    assert (put.returncode, put.stderr) == (0, "")
    for part in ("0 2 * * * (Europe/Berlin)", '{"kind":"sums"}', "all, at most 100", "02:00:00 CE"):
        assert part in put.stdout
    await schedules("put", "often", "sweep", "--every", "1h30m")
    table = (await schedules("list")).stdout
    assert [line.split()[:2] for line in table.splitlines()] == [
        ["name", "job"],
        ["nightly", "report"],
        ["often", "sweep"],
    ]
    assert "every 1h30m" in table
    [nightly, often] = (await schedules("list", "--json")).stdout.splitlines()
    assert msgspec.json.decode(often)["timing"]["every"] == 5400
    runs = (await schedules("next", "often", "-n", "3")).stdout.splitlines()
    assert len(runs) == 3
    assert " in " in runs[0]
    assert "often" in (await schedules("delete", "often")).stdout
    [left] = (await schedules("list", "--json")).stdout.splitlines()
    assert left == nightly


async def test_a_schedule_is_paused_resumed_and_run_by_hand(schedules: Schedules) -> None:
    await schedules("put", *NIGHTLY)
    await schedules("pause", "nightly", "--reason", "holidays")
    shown = (await schedules("show", "nightly")).stdout
    assert "yes: holidays" in shown
    assert (await schedules("list", "--paused")).stdout.count("paused") == 1
    job = (await schedules("trigger", "nightly")).stdout.strip()
    assert job.startswith("nightly@now:")
    assert job in (await schedules("show", "nightly", "--json")).stdout
    assert "02:00:00 UTC" in (await schedules("resume", "nightly")).stdout
    assert "no such schedule" in (await schedules("list", "--paused")).stdout


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["put", "x", "y", "--cron", "* * *"], ["'* * *'", "number of fields", "'0 9 * * 1-5'"]),
        (["put", "x", "y", "--every", "soon"], ["'@every soon'", "'@every 10m'"]),
        (["put", "x", "y", "[1]", "--cron", "@daily"], ["payload", "JSON object"]),
        (["put", "x", "y", "--cron", "@daily", "--end", "2026-01-01"], ["2026-01-31T09:30:00Z"]),
        (["put", "x", "y", "--cron", "@daily", "--end", "2020-01-01T00:00Z"], ["end", "past"]),
        (["show", "nobody"], ["no schedule 'nobody'"]),
    ],
)
async def test_what_is_wrong_is_said_in_one_line(
    schedules: Schedules, arguments: list[str], parts: list[str]
) -> None:
    assert_one_clear_line(await schedules(*arguments), *parts)
