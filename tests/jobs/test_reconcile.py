"""After a restore: jobs whose items and timers are missing, or are of another instant."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from penstock.client import Penstock
from penstock.contracts.envelope import wrap
from penstock.contracts.jobs import Backoff, JobLogged, LogLine
from penstock.infra.bus import Bus
from penstock.infra.event_log import JetStreamEventLog
from penstock.infra.restored import RESTORED, UNSETTLED, marks
from penstock.infra.streams import provision
from penstock.infra.testing import running_system
from penstock.jobs.service import build
from support.workers import NewWorker, Spawn, event_names, nothing_left, stored

BUILDERS = {"jobs": build}
LATER = Backoff(initial=86_400, maximum=86_400)


async def lose_items_and_timers(bus: Bus) -> None:
    for name in ("work", "sched"):
        await bus.api(f"STREAM.DELETE.{bus.subjects.stream(name)}")
    await provision(bus)


async def lose_nothing(bus: Bus) -> None:
    pass


async def metadata(bus: Bus, **changed: str) -> dict[str, str]:
    """What the jobs' stream says of itself, after adding `changed`."""
    name = bus.subjects.event_stream("jobs")
    config = (await bus.api(f"STREAM.INFO.{name}"))["config"]
    if changed:
        await bus.api(f"STREAM.UPDATE.{name}", {**config, "metadata": changed})
    found: dict[str, str] = config["metadata"]
    return found


async def settled(bus: Bus) -> None:
    async with asyncio.timeout(60):
        while UNSETTLED in await metadata(bus):
            await asyncio.sleep(0.02)
    assert (await metadata(bus))[RESTORED] == "r"


async def leave_jobs_of_every_kind(
    ps: Penstock, new_worker: NewWorker, spawn: Spawn, directory: Path
) -> None:
    """One is over, one runs, one is to be retried, one waits, and one is delayed."""
    failing = new_worker()

    @failing.register_handler("brief")
    async def brief(n: int) -> int:
        raise RuntimeError("not yet")

    await ps.jobs.enqueue("brief", {"n": 1}, id="retried", backoff=LATER)
    async with failing:
        async for job in ps.jobs.watch("retried"):
            if job.state == "retrying":
                break
    program = spawn()
    await ps.jobs.enqueue("brief", {"n": 2}, id="over")
    await ps.jobs.enqueue("wait", id="running")
    await ps.jobs.result("over", timeout=60)
    async for job in ps.jobs.watch("running"):
        if job.state == "processing":
            break
    program.send(signal.SIGKILL)
    program.wait()
    await ps.jobs.enqueue("brief", {"n": 3}, id="waiting")
    await ps.jobs.enqueue("brief", {"n": 4}, id="delayed", delay=2)
    (directory / "go").touch()


@pytest.mark.parametrize("lose", [lose_items_and_timers, lose_nothing])
async def test_every_job_goes_on_where_its_events_end_and_is_completed_once(
    nats_url: str,
    prefix: str,
    tmp_path: Path,
    new_worker: NewWorker,
    spawn: Spawn,
    lose: Callable[[Bus], Awaitable[None]],
) -> None:
    async with Penstock(nats_url, prefix=prefix) as ps:
        bus = ps.session.bus
        async with running_system(nats_url, prefix, tmp_path, BUILDERS):
            await leave_jobs_of_every_kind(ps, new_worker, spawn, tmp_path)
        await lose(bus)
        await metadata(bus, **marks("r"))
        async with running_system(nats_url, prefix, tmp_path, BUILDERS):
            await settled(bus)
            items_and_timers = await stored(ps, "work") + await stored(ps, "sched")
            assert items_and_timers == 4, "one for each that is not over, and no doubles"
            spawn()
            for id in ("running", "waiting", "delayed"):
                await ps.jobs.result(id, timeout=60)
            for id in ("over", "running", "waiting", "delayed"):
                assert (await event_names(ps, id)).count("completed") == 1
            released = "released" if lose is lose_items_and_timers else "retrying"
            running = await event_names(ps, "running")
            assert running == ["queued", "started", released, "started", "completed"]
            assert (await ps.jobs.cancel("retried")).attempt == 1
            await nothing_left(ps)


async def test_nothing_is_done_without_a_restore(
    nats_url: str, prefix: str, tmp_path: Path
) -> None:
    async with Penstock(nats_url, prefix=prefix) as ps:
        async with running_system(nats_url, prefix, tmp_path, BUILDERS):
            await ps.jobs.enqueue("brief", {"n": 1}, id="waiting")
        await lose_items_and_timers(ps.session.bus)
        async with running_system(nats_url, prefix, tmp_path, BUILDERS) as host:
            assert not host.problems()["jobs"]
            assert await stored(ps, "work") == 0


async def test_a_job_whose_handler_said_something_is_given_back_too(
    nats_url: str, prefix: str, tmp_path: Path, spawn: Spawn
) -> None:
    async with Penstock(nats_url, prefix=prefix) as ps:
        bus = ps.session.bus
        async with running_system(nats_url, prefix, tmp_path, BUILDERS):
            program = spawn()
            await ps.jobs.enqueue("wait", id="running")
            async for job in ps.jobs.watch("running"):
                if job.state == "processing":
                    break
            program.send(signal.SIGKILL)
            program.wait()
        await say_something(bus, "running")
        await lose_items_and_timers(bus)
        await metadata(bus, **marks("r"))
        (tmp_path / "go").touch()
        async with running_system(nats_url, prefix, tmp_path, BUILDERS):
            spawn()
            await ps.jobs.result("running", timeout=60)
            running = await event_names(ps, "running")
            assert running == ["queued", "started", "logged", "released", "started", "completed"]


async def say_something(bus: Bus, id: str) -> None:
    """Store a line that the handler said."""
    log = JetStreamEventLog(bus, "jobs")
    last = (await log.load(id)).events[-1]
    line = LogLine(time=datetime.now(UTC), message="here we go")
    event = wrap(
        JobLogged(attempt=1, lines=(line,)),
        id="said",
        subject=id,
        time=line.time,
        correlationid="c",
        version=last.event.version + 1,
    )
    await log.append([event], expected=last.sequence)
