"""`penstock jobs`, `workers` and `queues` against a running system, in the test's own process."""

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
from penstock.client import Worker
from penstock.infra.host import Host
from penstock.infra.testing import running_system
from penstock.jobs.service import build
from support.command_line import assert_one_clear_line

Jobs = Callable[..., Awaitable[subprocess.CompletedProcess[str]]]


@pytest.fixture
async def jobs(
    system: Host, nats_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Jobs]:
    """Runs `penstock` with some arguments."""
    monkeypatch.setenv("PENSTOCK_NATS_URL", nats_url)
    monkeypatch.setenv("PENSTOCK_PREFIX", prefix)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            status = main(arguments)
        return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())

    async def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = arguments if arguments[0] in ("workers", "queues") else ("jobs", *arguments)
        return await asyncio.to_thread(run, *command)

    yield call


@pytest.fixture
async def system(nats_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[Host]:
    async with running_system(nats_url, prefix, tmp_path, {"jobs": build}) as host:
        yield host


def worker_of(nats_url: str, prefix: str) -> Worker:
    """A worker whose handler `share` divides by what it is given."""
    worker = Worker(nats_url, prefix=prefix, durability="os", name="w1", version="7")

    @worker.register_handler("share")
    async def share(among: int) -> dict[str, float]:
        shared.append(among)
        return {"each": 12 / (among or len(shared) - 1), "time": len(shared)}

    shared: list[int] = []
    return worker


async def test_what_one_command_did_the_next_one_shows_unless_the_view_is_far_behind(
    jobs: Jobs, system: Host
) -> None:
    [service] = system.services
    async with service.projector.paused():
        await jobs("enqueue", "sum", "--id", "s1")
        shown = asyncio.ensure_future(jobs("show", "s1"))
        await asyncio.wait((shown,), timeout=0.5)
    assert "sum" in (await shown).stdout
    async with service.projector.paused() as sequence:
        await jobs("enqueue", "sum", "--id", "s2")
        behind = await jobs("list")
    assert "s1" in behind.stdout and "s2" not in behind.stdout
    assert behind.stderr == f"penstock: jobs is behind, as of event {sequence}\n"


async def test_jobs_are_enqueued_listed_shown_and_cancelled(jobs: Jobs) -> None:
    put = await jobs("enqueue", "sum", '{"a": [1]}', "--id", "s1", "--tag", "x", "--queue", "q")
    assert (put.stdout, put.stderr, put.returncode) == ("s1\n", "", 0)
    await jobs("enqueue", "wait", "--id", "s2", "--delay", "60")
    table = (await jobs("list")).stdout.splitlines()
    assert [line.split()[:3] for line in table] == [
        ["job", "state", "name"],
        ["s2", "pending", "wait"],
        ["s1", "pending", "sum"],
    ]
    [tagged] = (await jobs("list", "--tag", "x", "--limit", "0", "--json")).stdout.splitlines()
    assert msgspec.json.decode(tagged)["id"] == "s1"
    shown = (await jobs("show", "s1")).stdout
    assert 'sum {"a":[1]}' in shown
    assert "q, priority 5" in shown
    assert (await jobs("cancel", "s1", "--reason", "no need")).stdout == "s1 is cancelled.\n"
    assert "no need" in (await jobs("list", "--state", "cancelled")).stdout
    [counts] = (await jobs("stats", "--json")).stdout.splitlines()
    total = msgspec.json.decode(counts)["total"]
    assert (total["pending"], total["cancelled"]) == (1, 1)


async def test_a_queue_is_listed_with_its_depth_its_names_and_how_it_stands(jobs: Jobs) -> None:
    await jobs("enqueue", "sum", "--queue", "media")
    await jobs("enqueue", "sum", "--queue", "media", "--delay", "60")
    assert "is paused" in (await jobs("queues", "pause", "media", "--reason", "too hot")).stdout
    assert (await jobs("queues", "pause", "idle")).returncode == 0
    told = [msgspec.json.decode(line) for line in await _lines(jobs, "queues", "list", "--json")]
    assert [(one["queue"], one.get("name")) for one in told] == [
        ("idle", None),
        ("media", None),
        ("media", "sum"),
    ]
    media = {name: told[1].get(name) for name in ("waiting", "delayed", "paused", "reason")}
    assert media == {"waiting": 1, "delayed": 1, "paused": True, "reason": "too hot"}
    assert told[1]["rates"][0]["enqueued"] > 0
    [_, row, *_] = await _lines(jobs, "queues", "list", "--queue", "media")
    assert row.split()[:3] == ["media", "1", "1"]
    assert "paused: too hot" in row


async def test_a_job_tells_on_the_command_line_what_it_waits_for(jobs: Jobs) -> None:
    await jobs("enqueue", "sum", "--id", "w1", "--delay", "60")
    assert (await jobs("why", "w1")).stdout.startswith("It is to run at ")
    await jobs("cancel", "w1")
    assert (await jobs("why", "w1")).stdout == "w1 waits for nothing: it is cancelled.\n"
    await jobs("enqueue", "sum", "--id", "w2")
    [told] = await _lines(jobs, "why", "w2", "--json")
    assert msgspec.json.decode(told)["waits_for"] == ["worker"]


async def _lines(jobs: Jobs, *arguments: str) -> list[str]:
    return (await jobs(*arguments)).stdout.splitlines()


async def test_a_dead_job_is_found_rerun_beside_the_old_one_and_redriven(
    jobs: Jobs, nats_url: str, prefix: str
) -> None:
    enqueue = ("enqueue", "share", '{"among": 0}', "--id", "d1", "--max-attempts", "1")
    async with worker_of(nats_url, prefix):
        await jobs(*enqueue)
        async with asyncio.timeout(60):
            while "ZeroDivisionError" not in (await jobs("dead", "--count")).stdout:
                await asyncio.sleep(0.05)
        assert "d1" in (await jobs("dead", "--error", "ZeroDivisionError")).stdout
        assert "no such job" in (await jobs("dead", "--error", "ValueError")).stdout
        rerun = (await jobs("rerun", "d1")).stdout
        for part in ("failed", "completed", "ZeroDivisionError", '{"each":12.0', "did not come to"):
            assert part in rerun
        assert (await jobs("redrive", "--all")).stdout == "1 redriven.\n"
        assert "w1" in (await jobs("workers")).stdout
        assert "w1" in (await jobs("handlers")).stdout
        estimate = (await jobs("estimate", "d1")).stdout
        assert "d1 is" in estimate


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["show", "nobody"], ["jobs knows no 'nobody'"]),
        (["list", "--before", "nobody"], ["no job 'nobody'", "begin the list again"]),
        (["redrive"], ["--error", "--all"]),
        (["enqueue", "x", "[1]"], ["JSON object"]),
        (["stats", "--at", "noon"], ["'noon'", "2026-01-31T09:30:00Z"]),
        (["rerun", "nobody"], ["'nobody'"]),
    ],
)
async def test_what_is_wrong_is_said_in_one_line(
    jobs: Jobs, arguments: list[str], parts: list[str]
) -> None:
    assert_one_clear_line(await jobs(*arguments), *parts)
