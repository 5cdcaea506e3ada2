"""Workflows whose commands were lost, by a restore or otherwise, go on and are completed once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from penstock.client import Item, Penstock, Worker, step
from penstock.contracts.envelope import Envelope, wrap
from penstock.contracts.jobs_bulk import EnqueueJobs
from penstock.contracts.workflows import StepStarted, WorkflowStarted
from penstock.infra.event_log import JetStreamEventLog
from penstock.infra.host import Host
from penstock.infra.restored import marks
from penstock.infra.testing import running_system
from penstock.jobs.bulk import BulkEnqueue
from penstock.jobs.service import build
from penstock.jobs.workflow_effects import WorkflowEffects
from penstock.jobs.workflow_recovery import StandingStill, WorkflowRecovery
from penstock.jobs.workflow_results import StepResults
from penstock.jobs.workflow_telling import Telling
from support.waiting import up_to_date
from support.workers import NewWorker, event_names

BUILDERS = {"jobs": build}


@pytest.fixture
async def ps(nats_url: str, prefix: str) -> AsyncIterator[Penstock]:
    """A client, whether the service runs or not."""
    async with Penstock(nats_url, prefix=prefix, timeout=60) as client:
        yield client


def doubling(new_worker: NewWorker) -> Worker:
    worker = new_worker()

    @worker.register_handler("double")
    async def double(x: int) -> int:
        return x * 2

    return worker


async def no_cancel(commands: Sequence[Envelope]) -> int:
    """No workflow ends here while jobs of it are under way."""
    assert not commands
    return 0


def standing_still(system: Host) -> StandingStill:
    """What looks for workflows, without any patience."""
    [jobs] = system.services
    load, handle = jobs.decider.load, jobs.decider.handle
    results = StepResults(jobs.bus)
    bulk = jobs.own[EnqueueJobs]
    assert isinstance(bulk, BulkEnqueue)
    effects = WorkflowEffects(jobs.bus, results, load, bulk.enqueue, no_cancel)
    recovery = WorkflowRecovery(effects, Telling(jobs.bus, results), load, handle)
    return StandingStill(lambda: jobs.model, recovery, late=0.0)


async def completed(ps: Penstock, *ids: str) -> None:
    """Wait until the worker has stored so, while no service runs."""
    log = JetStreamEventLog(ps.session.bus, "jobs")
    async with asyncio.timeout(60):
        for id in ids:
            while "completed" not in (await log.load(id)).events[-1].event.type:
                await asyncio.sleep(0.02)


async def leave_untold(ps: Penstock, worker: Worker, nats_url: str, prefix: str, at: Path) -> None:
    """A workflow two of whose jobs are over, with nobody to tell it any more."""
    async with running_system(nats_url, prefix, at, BUILDERS):
        steps = [
            step("double", {"x": Item()}, key="first", each=[1, 2]),
            step("double", {"x": 21}, key="last", after=["first"]),
        ]
        await ps.workflows.start(steps, id="w")
    async with worker:
        await completed(ps, "w.first.0", "w.first.1")
    bus = ps.session.bus
    await bus.api(f"STREAM.PURGE.{bus.subjects.stream('cmd')}")


async def test_a_workflow_hears_after_a_restore_of_jobs_that_ended(
    ps: Penstock, nats_url: str, prefix: str, tmp_path: Path, new_worker: NewWorker
) -> None:
    await leave_untold(ps, doubling(new_worker), nats_url, prefix, tmp_path)
    bus = ps.session.bus
    config = (await bus.api(f"STREAM.INFO.{bus.subjects.event_stream('jobs')}"))["config"]
    await bus.api(f"STREAM.UPDATE.{config['name']}", {**config, "metadata": marks("r")})
    async with running_system(nats_url, prefix, tmp_path, BUILDERS), doubling(new_worker):
        assert await ps.workflows.result("w", timeout=60) == 42
        assert (await event_names(ps, "workflow:w")).count("workflow_completed") == 1


async def test_a_workflow_that_was_never_told_is_found_and_goes_on(
    ps: Penstock, nats_url: str, prefix: str, tmp_path: Path, new_worker: NewWorker
) -> None:
    await leave_untold(ps, doubling(new_worker), nats_url, prefix, tmp_path)
    async with running_system(nats_url, prefix, tmp_path, BUILDERS) as system:
        assert (await ps.workflows.get("w")).under_way("first") == [0, 1]
        looking = standing_still(system)
        await asyncio.gather(looking.look(), looking.look())
        await up_to_date(ps)
        assert (await ps.workflows.get("w")).runs["first"].state == "completed"
        await looking.look()  # its last job waits: nothing is wrong
        async with doubling(new_worker):
            assert await ps.workflows.result("w", timeout=60) == 42
        assert (await event_names(ps, "workflow:w")).count("workflow_step_ended") == 3


async def test_jobs_of_a_workflow_that_were_never_enqueued_are(
    ps: Penstock, nats_url: str, prefix: str, tmp_path: Path, new_worker: NewWorker
) -> None:
    async with running_system(nats_url, prefix, tmp_path, BUILDERS) as system:
        steps = (step("double", {"x": 21}),)
        for version, data in enumerate((WorkflowStarted(steps=steps), StepStarted(key="double"))):
            await store(ps, data, version)
        async with asyncio.timeout(60), doubling(new_worker):
            while (await ps.workflows.get("w")).state == "processing":
                await standing_still(system).look()
                await asyncio.sleep(0.02)
        assert await ps.workflows.result("w", timeout=60) == 42


async def store(ps: Penstock, data: msgspec.Struct, version: int) -> None:
    """Store an event of the workflow as a command did that was killed right after."""
    log = JetStreamEventLog(ps.session.bus, "jobs")
    before = (await log.load("workflow:w")).events
    event = wrap(
        data,
        id=f"e{version}",
        subject="workflow:w",
        time=datetime.now(UTC),
        correlationid="c",
        version=version + 1,
    )
    stored = await log.append([event], expected=before[-1].sequence if before else 0)
    ps.session.wrote("jobs", stored.sequence)
