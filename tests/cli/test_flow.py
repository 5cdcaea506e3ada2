"""`penstock flow` and `penstock history` on a running system, each as a process of its own."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.cache.service import build as build_cache
from penstock.client import JobContext, Penstock, Worker
from penstock.infra.host import Build, Host
from penstock.infra.testing import running_system
from penstock.jobs.service import build as build_jobs
from penstock.progress.service import build as build_progress
from support.command_line import assert_one_clear_line, penstock

BUILDERS: dict[str, Build] = {"progress": build_progress, "jobs": build_jobs, "cache": build_cache}
Result = subprocess.CompletedProcess[str]


@pytest.fixture
async def system(nats_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[Host]:
    async with running_system(nats_url, prefix, tmp_path, BUILDERS) as host:
        yield host


@pytest.fixture
async def ps(system: Host, nats_url: str, prefix: str) -> AsyncIterator[Penstock]:
    async with Penstock(nats_url, prefix=prefix, actor="ada", timeout=60) as client:
        yield client


class Command:
    """`penstock`, for the system of the test."""

    def __init__(self, nats_url: str, prefix: str, directory: Path) -> None:
        self._directory = directory
        self._environ = {"PENSTOCK_NATS_URL": nats_url, "PENSTOCK_PREFIX": prefix}

    async def __call__(self, *arguments: str) -> Result:
        return await asyncio.to_thread(
            penstock, *arguments, directory=self._directory, environ=self._environ
        )

    async def json(self, *arguments: str) -> Any:
        result = await self(*arguments, "--json")
        assert result.returncode == 0, result.stderr
        return msgspec.json.decode(result.stdout)


@pytest.fixture
def command(nats_url: str, prefix: str, tmp_path: Path) -> Command:
    return Command(nats_url, prefix, tmp_path)


async def one_job(ps: Penstock, nats_url: str, prefix: str) -> None:
    """A job `j` in the flow `flow-7`, whose handler tracks a progress `p`: three and two events."""
    worker = Worker(nats_url, prefix=prefix, name="w1")

    @worker.register_handler("track")
    async def track(ctx: JobContext) -> None:
        await ctx.ps.progress.create("p")
        await ctx.ps.progress.complete("p")

    async with worker:
        with ps.correlated("flow-7"):
            await ps.jobs.enqueue("track", id="j")
        await ps.jobs.result("j", timeout=60)
    async with asyncio.timeout(60):
        while len(await ps.flow("flow-7")) < 5:  # each view folds in its own time
            await asyncio.sleep(0.02)


def steps(line: str) -> tuple[int, str]:
    """How deep a line is, and what it says without times."""
    text = line[15:]
    return (len(text) - len(text.lstrip())) // 2, " ".join(text.split())


DRAWN = [
    (0, "command jobs.enqueue j by ada"),
    (1, "event jobs.queued j #1"),
    (2, "hop work queue to w1"),
    (3, "event jobs.started j #2"),
    (4, "command progress.create p by ada"),
    (5, "event progress.created p #1"),
    (4, "command progress.complete p by ada"),
    (5, "event progress.completed p #2"),
    (4, "event jobs.completed j #3"),
]


async def test_a_flow_is_drawn_across_services_by_any_id_of_it(
    ps: Penstock, command: Command, nats_url: str, prefix: str
) -> None:
    await one_job(ps, nats_url, prefix)
    [_, created] = sorted(
        [e for e in await ps.flow("flow-7") if e.service == "progress"],
        key=lambda e: -e.version,
    )
    assert created.causationid
    by_flow = await command("flow", "flow-7")
    assert [steps(line) for line in by_flow.stdout.splitlines()] == DRAWN
    for id in ("j", "p", created.id, created.causationid):  # aggregates, an event, a command
        assert (await command("flow", id)).stdout == by_flow.stdout, id
    assert "the part of notifications is missing: " in by_flow.stderr
    drawn = await command.json("flow", "flow-7")
    assert (drawn["id"], len(drawn["steps"])) == ("flow-7", 1)
    [queued] = drawn["steps"][0]["caused"]
    assert (queued["what"], queued["service"], queued["version"]) == ("event", "jobs", 1)
    assert queued["offset"] > 0


async def test_the_last_of_an_aggregates_flows_is_drawn_and_the_others_are_named(
    ps: Penstock, command: Command
) -> None:
    for flow in ("first", "second", "third"):
        with ps.correlated(flow):
            await (ps.progress.create("p") if flow == "first" else ps.progress.update("p", 5))
    result = await command("flow", "p")
    assert "progress.update  p  by ada" in result.stdout.splitlines()[0]
    assert "took part in other flows before, the last first: second, first" in result.stdout
    assert (await command.json("flow", "p"))["others"] == ["second", "first"]


async def test_what_a_change_of_the_application_caused_hangs_together(
    ps: Penstock, command: Command
) -> None:
    with ps.correlated("changed"):
        await ps.changes.publish("user", "1", tags=["profile"])
    async with asyncio.timeout(60):
        while len(entries := await ps.flow("changed")) < 3:
            await asyncio.sleep(0.02)
    drawn = await command.json("flow", "changed")
    [change] = drawn["steps"]
    assert (change["what"], change["id"]) == ("message", entries[0].causationcause)
    assert sorted(below["subject"] for below in change["caused"]) == ["profile", "user", "user:1"]


async def test_a_history_says_what_who_why_and_when(
    ps: Penstock, command: Command, nats_url: str, prefix: str
) -> None:
    await one_job(ps, nats_url, prefix)
    result = await command("history", "j")
    assert result.returncode == 0, result.stderr
    head, *lines = result.stdout.splitlines()
    assert head == "jobs  j  3 events"
    queued, started, _ = (" ".join(line.split()) for line in lines)
    assert " #1 20" in queued
    assert " jobs.queued.v1 by ada because of jobs.enqueue.v1 " in queued
    assert " jobs.started.v1 by ada because of jobs.queued.v1 " in started
    assert '{"attempt":1,"worker":"w1",' in started
    assert " trace " in started
    told = await command.json("history", "jobs", "j")
    assert [event["version"] for event in told["events"]] == [1, 2, 3]
    assert told["events"][0]["correlationid"] == "flow-7"


async def test_a_history_ends_where_it_is_told_with_the_state_then(
    ps: Penstock, command: Command
) -> None:
    await ps.progress.create("p")
    await ps.progress.update("p", 40)
    await ps.progress.complete("p")
    entries = await ps.session.history("progress", "p")
    told = await command.json("history", "progress", "p", "--at", str(entries[1].sequence))
    assert len(told["events"]) == 2
    assert told["states"]["progress"]["percent"] == 40
    result = await command("history", "p", "--at", entries[1].time.isoformat())
    assert len(result.stdout.splitlines()) == 4
    assert '"percent":40.0' in result.stdout.splitlines()[-1]


async def test_a_bad_question_is_one_clear_line(system: Host, command: Command) -> None:
    assert_one_clear_line(await command("flow", "nobody"), "'nobody'")
    assert_one_clear_line(await command("history", "jobs", "nobody"), "jobs knows no 'nobody'")
    assert_one_clear_line(await command("history", "j", "--at", "12"), "name the SERVICE")
    assert_one_clear_line(await command("history", "j", "--at", "noon"), "--at noon")
