"""Readiness tells the truth: whatever keeps a service from its work shows, and goes again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from penstock.client import Penstock
from penstock.contracts.envelope import Envelope
from penstock.contracts.errors import Unavailable
from penstock.contracts.progress import SERVICE, CreateProgress, ProgressState
from penstock.infra.bus import Bus
from penstock.infra.consuming.watchdog import EVERY, STALL
from penstock.infra.host import Host
from penstock.infra.nats_server import EmbeddedNats
from penstock.infra.service import Frame, Service
from penstock.infra.streams import provision
from penstock.infra.testing import running_system
from penstock.progress.domain import decide, evolve
from penstock.progress.service import build

SOON = 6.0  # seconds within which a problem shows, or is gone
READY: dict[str, list[str]] = {"nats": [], SERVICE: []}


@pytest.fixture
async def system(nats_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[Host]:
    async with running_system(nats_url, prefix, tmp_path, {SERVICE: build}) as host:
        yield host


@pytest.fixture
async def ps(system: Host, nats_url: str, prefix: str) -> AsyncIterator[Penstock]:
    async with Penstock(nats_url, prefix=prefix) as client:
        yield client


async def shows(host: Host, *parts: str, within: float = SOON) -> None:
    """Wait until some problem contains all of `parts`."""

    def found() -> bool:
        problems = chain.from_iterable(host.problems().values())
        return any(all(part in problem for part in parts) for problem in problems)

    await until(found, within)


async def ready(host: Host, within: float = SOON) -> None:
    await until(lambda: not any(host.problems().values()), within)


async def until(holds: Callable[[], bool], within: float) -> None:
    async with asyncio.timeout(within):
        while not holds():
            await asyncio.sleep(0.05)


async def status(host: Host) -> tuple[int, str]:
    async with aiohttp.ClientSession(host.http_url) as http, http.get("/health/ready") as answer:
        return answer.status, await answer.text()


class Stuck:
    """Progress, whose commands end only when they are let."""

    def __init__(self) -> None:
        self.may_go = asyncio.Event()

    def build(self, frame: Frame) -> Service[ProgressState]:
        async def effect(aggregate: Any, command: Envelope) -> None:
            await self.may_go.wait()

        return Service(
            frame, SERVICE, state=ProgressState, decide=decide, evolve=evolve, effect=effect
        )


async def test_commands_that_wait_while_none_is_finished_show_and_their_end_too(
    nats_url: str, prefix: str, tmp_path: Path
) -> None:
    stuck = Stuck()
    async with (
        running_system(nats_url, prefix, tmp_path, {SERVICE: stuck.build}) as host,
        Penstock(nats_url, prefix=prefix) as ps,
        asyncio.TaskGroup() as tasks,
    ):
        for id in "abc":
            tasks.create_task(ps.progress.create(id))
        assert (await status(host))[0] == 200
        await shows(host, "3 commands wait and none was taken for", within=STALL + SOON)
        code, body = await status(host)
        assert code == 503
        assert "3 commands wait" in body
        stuck.may_go.set()
        await ready(host)
        assert (await status(host))[0] == 200


async def test_a_consumer_that_somebody_paused_shows_and_that_it_goes_on(
    system: Host, ps: Penstock
) -> None:
    bus = ps.session.bus
    pause = f"CONSUMER.PAUSE.{bus.subjects.stream('cmd')}.{SERVICE}-commands"
    end = datetime.now(UTC) + timedelta(hours=1)
    await bus.api(pause, {"pause_until": end.isoformat().replace("+00:00", "Z")})
    creating = asyncio.create_task(ps.progress.create("a"))
    await shows(system, "1 command waits and none was taken for", within=STALL + SOON)
    await bus.api(pause)
    await ps.progress.create("b")  # the server itself goes on only with the next message
    await creating
    await ready(system)


async def test_commands_that_waited_for_the_service_to_start_are_no_problem_yet(
    nats_url: str, prefix: str, tmp_path: Path
) -> None:
    stuck = Stuck()
    async with Penstock(nats_url, prefix=prefix) as ps:
        await provision(ps.session.bus)
        await ps.session.post(CreateProgress(), id="a")
        async with running_system(nats_url, prefix, tmp_path, {SERVICE: stuck.build}) as host:
            looks = asyncio.get_running_loop().time() + 2 * EVERY
            while asyncio.get_running_loop().time() < looks:
                assert host.problems() == READY
                await asyncio.sleep(0.05)
            stuck.may_go.set()


async def test_a_lost_stream_of_commands_shows_until_it_is_made_again(
    system: Host, ps: Penstock
) -> None:
    bus = ps.session.bus
    await bus.api(f"STREAM.DELETE.{bus.subjects.stream('cmd')}")
    await shows(system, f"{SERVICE}-commands was lost and cannot be made again")
    await provision(bus)
    await ready(system)
    assert (await ps.progress.create("a")).id == "a"


async def test_a_log_that_cannot_be_followed_shows(system: Host, ps: Penstock) -> None:
    bus = ps.session.bus
    await bus.api(f"STREAM.DELETE.{bus.subjects.event_stream(SERVICE)}")
    await shows(system, f"it cannot follow {bus.subjects.event_stream(SERVICE)}")
    await provision(bus)
    await ready(system)


async def test_a_server_that_does_not_answer_shows_and_its_return_too(
    fresh_nats: EmbeddedNats, prefix: str, tmp_path: Path
) -> None:
    url = fresh_nats.url
    async with running_system(url, prefix, tmp_path / "system", {SERVICE: build}) as host:
        os.kill(fresh_nats.pid, signal.SIGSTOP)
        try:
            await shows(host, "its consumer progress-commands cannot be reached")
            await shows(host, "not connected")
            with pytest.raises(Unavailable):
                await Bus.connect(url, timeout=0.2)
        finally:
            os.kill(fresh_nats.pid, signal.SIGCONT)
        await ready(host)
        assert host.problems() == READY
