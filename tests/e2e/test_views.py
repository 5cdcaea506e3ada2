"""The views of all six services: verified and rebuilt while everything goes on."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import msgspec
import pytest

from penstock.cli.builders import builders
from penstock.client import Penstock
from penstock.contracts.control import Report
from penstock.contracts.errors import from_problem
from penstock.contracts.lifecycle import ARCHIVE, Archiving
from penstock.contracts.subjects import SERVICES
from penstock.contracts.views import Rebuild, Rebuilt, Verified, Verify
from penstock.infra.control import ask_all
from penstock.infra.host import Host
from penstock.infra.testing import running_system
from support.workload import mixed


@pytest.fixture
async def system(nats_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[Host]:
    async with running_system(nats_url, prefix, tmp_path, builders()) as host:
        yield host


@pytest.fixture
async def ps(system: Host, nats_url: str, prefix: str) -> AsyncIterator[Penstock]:
    async with Penstock(nats_url, prefix=prefix, http_url=system.http_url, timeout=60) as client:
        for turn in "123":
            await mixed(client, turn)
        yield client


@asynccontextmanager
async def traffic(ps: Penstock) -> AsyncIterator[None]:
    """Something of everything while the block runs; what fails, fails the test."""
    stop = asyncio.Event()

    async def go_on() -> None:
        while not stop.is_set():
            await mixed(ps, uuid.uuid4().hex[:8])

    going = asyncio.create_task(go_on())
    try:
        yield
    finally:
        stop.set()
        await going


async def ended(ps: Penstock, service: str, verb: str, parameters: msgspec.Struct) -> Report:
    [end] = [r async for r in ask_all(ps.session.bus, service, verb, parameters) if r.ended]
    if end.problem:
        raise from_problem(end.problem)
    return end


async def verified(ps: Penstock) -> dict[str, Verified]:
    ends = await asyncio.gather(*(ended(ps, name, "verify", Verify()) for name in SERVICES))
    found = [msgspec.json.decode(end.data, type=Verified) for end in ends]
    return dict(zip(SERVICES, found, strict=True))


async def rebuilt(ps: Penstock) -> dict[str, Rebuilt]:
    ends = await asyncio.gather(*(ended(ps, name, "rebuild", Rebuild()) for name in SERVICES))
    found = [msgspec.json.decode(end.data, type=Rebuilt) for end in ends]
    return dict(zip(SERVICES, found, strict=True))


async def test_every_view_is_as_its_events_say_while_traffic_goes_on(ps: Penstock) -> None:
    async with traffic(ps):
        found = await verified(ps)
    for service, one in found.items():
        assert (one.differences, one.count, one.held) == ((), 0, 0), service
        assert 0 < one.events <= one.sequence and one.aggregates > 0, service


async def test_what_went_to_the_archive_is_no_difference_and_stays_out_of_a_new_view(
    ps: Penstock,
) -> None:
    before = {"completed": datetime.now(UTC) + timedelta(hours=1)}
    outcome = await ps.session.command(ARCHIVE["progress"](before=before), id="archive")
    assert msgspec.json.decode(outcome.data, type=Archiving).aggregates == 3
    assert (await verified(ps))["progress"].differences == ()
    listed = await ps.progress.list()
    await rebuilt(ps)
    assert await ps.progress.list() == listed
    assert (await verified(ps))["progress"].differences == ()


async def test_every_view_can_be_rebuilt_while_traffic_goes_on_and_is_right_then(
    ps: Penstock, system: Host
) -> None:
    [export, *_] = await ps.exports.list()
    for _ in range(2):
        async with traffic(ps):
            assert all(one.held == 0 for one in (await rebuilt(ps)).values())
    found = await verified(ps)
    assert {service: one.differences for service, one in found.items() if one.count} == {}
    async with (
        aiohttp.ClientSession(system.http_url) as http,
        http.get(f"/exports/{export.id}/file") as response,
    ):
        assert "Hello 3." in await response.text()
    assert len(await ps.jobs.list(limit=1000)) >= 6
