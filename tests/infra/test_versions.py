"""A service of a newer version over the log, the commands and the view of the older one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from penstock.contracts import lifecycle
from penstock.contracts.answers import Outcome
from penstock.contracts.envelope import Envelope, command, event, upcast
from penstock.contracts.registry import MESSAGES
from penstock.infra.bus import Bus
from penstock.infra.dead_letters.burying import DeadLetter
from penstock.infra.deciding.decider import Context
from penstock.infra.host import Host
from penstock.infra.service import Frame, Service
from penstock.infra.streams import ensure, event_stream
from penstock.infra.testing import running_system

SERVICE = "tank"
LIFECYCLE: list[tuple[dict[str, Any], type[msgspec.Struct], Callable[..., Any]]] = [
    (lifecycle.ERASE, lifecycle.Erase, command),
    (lifecycle.ARCHIVE, lifecycle.Archive, command),
    (lifecycle.ERASED, lifecycle.Erased, event),
    (lifecycle.ARCHIVED, lifecycle.Archived, event),
]


class FillV1(msgspec.Struct, frozen=True):
    litres: int


class FilledV1(msgspec.Struct, frozen=True):
    litres: int


class Fill(msgspec.Struct, frozen=True):
    millilitres: int


class Filled(msgspec.Struct, frozen=True):
    millilitres: int


class Tank(msgspec.Struct, frozen=True):
    holds: int = 0


def older(frame: Frame) -> Service[Tank]:
    """The service as it was, in litres."""

    def decide(_: Tank | None, asked: msgspec.Struct, __: Context) -> list[msgspec.Struct]:
        assert isinstance(asked, FillV1)
        return [FilledV1(asked.litres)]

    def evolve(state: Tank | None, done: msgspec.Struct, _: Envelope) -> Tank:
        assert isinstance(done, FilledV1)
        return Tank((state or Tank()).holds + done.litres)

    return Service(frame, SERVICE, state=Tank, decide=decide, evolve=evolve)


def newer(frame: Frame) -> Service[Tank]:
    """The service as it is, in millilitres; it has never heard of litres."""

    def decide(_: Tank | None, asked: msgspec.Struct, __: Context) -> list[msgspec.Struct]:
        assert isinstance(asked, Fill)
        return [Filled(asked.millilitres)]

    def evolve(state: Tank | None, done: msgspec.Struct, _: Envelope) -> Tank:
        assert isinstance(done, Filled)
        return Tank((state or Tank()).holds + done.millilitres)

    return Service(frame, SERVICE, state=Tank, decide=decide, evolve=evolve)


@pytest.fixture
def contracts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The contracts as they were: the first version alone. What a test adds goes with it."""
    for name, value in vars(MESSAGES).items():
        monkeypatch.setattr(MESSAGES, name, dict(value))
    for declared, of_each, declare in LIFECYCLE:
        own = msgspec.defstruct("Own", [], bases=(of_each,), frozen=True, kw_only=True)
        monkeypatch.setitem(declared, SERVICE, declare(SERVICE, of_each.__name__.lower())(own))
    command(SERVICE, "fill")(FillV1)
    event(SERVICE, "filled")(FilledV1)


def upgrade() -> None:
    """The contracts of the newer version."""
    command(SERVICE, "fill", version=2)(Fill)
    event(SERVICE, "filled", version=2)(Filled)
    upcast(FillV1)(lambda old: Fill(1000 * old.litres))
    upcast(FilledV1)(lambda old: Filled(1000 * old.litres))


@asynccontextmanager
async def tank(
    bus: Bus, nats_url: str, directory: Path, *, upgraded: bool
) -> AsyncIterator[tuple[Host, aiohttp.ClientSession]]:
    await ensure(bus, event_stream(bus.subjects, SERVICE))
    build = newer if upgraded else older
    async with (
        running_system(nats_url, bus.subjects.prefix, directory, {SERVICE: build}) as host,
        aiohttp.ClientSession(host.http_url) as http,
    ):
        yield host, http


async def fill(http: aiohttp.ClientSession, data: dict[str, int], **more: int) -> Outcome:
    body = {"id": "a", "data": data, **more}
    async with http.post("/commands/tank/fill?wait=10", json=body) as response:
        assert response.status == 200, await response.text()
        return msgspec.json.decode(await response.read(), type=Outcome)


async def holds(http: aiohttp.ClientSession, min_seq: int = 0) -> int:
    async with http.get("/tank/a", params={"min_seq": min_seq}) as response:
        return int((await response.json())["data"]["holds"])


async def test_the_newer_service_reads_the_log_and_the_callers_of_the_older(
    bus: Bus, nats_url: str, tmp_path: Path, contracts: None
) -> None:
    async with tank(bus, nats_url, tmp_path, upgraded=False) as (_, http):
        first = await fill(http, {"litres": 3})
        assert await holds(http, first.sequence) == 3
    upgrade()
    async with tank(bus, nats_url, tmp_path, upgraded=True) as (_, http):
        assert await holds(http) == 3000, "the view was not folded again"
        await fill(http, {"millilitres": 500})
        last = await fill(http, {"litres": 1}, version=1)
        assert await holds(http, last.sequence) == 4500
        async with http.get("/tank/a/history") as response:
            types = [entry["type"] for entry in (await response.json())["data"]]
        assert types == ["penstock.tank.filled.v1", *["penstock.tank.filled.v2"] * 2]


async def send(bus: Bus, type: str, data: dict[str, int]) -> None:
    """A command as a process of any version writes it."""
    body = {
        "specversion": "1.0",
        "id": "c-1",
        "source": "/penstock/tank",
        "type": type,
        "subject": "a",
        "time": "2026-01-31T09:30:00Z",
        "correlationid": "c-1",
        "data": data,
    }
    await bus.publish_acked(bus.subjects.command(SERVICE, "fill"), msgspec.json.encode(body))


async def dead_letter(bus: Bus) -> DeadLetter:
    async with asyncio.timeout(60):
        while True:
            request = {"last_by_subj": bus.subjects.dead(SERVICE)}
            if found := await bus.direct_get(bus.subjects.stream("dead"), request):
                return msgspec.json.decode(found[0].data, type=DeadLetter)
            await asyncio.sleep(0.01)


async def test_a_command_that_waited_in_its_old_form_is_carried_out(
    bus: Bus, nats_url: str, tmp_path: Path, contracts: None
) -> None:
    async with tank(bus, nats_url, tmp_path, upgraded=False):
        pass  # makes the streams
    await send(bus, "penstock.tank.fill.v1", {"litres": 2})
    upgrade()
    async with tank(bus, nats_url, tmp_path, upgraded=True) as (host, http):
        await host.services[0].projector.reached(1, 60)
        assert await holds(http) == 2000


async def test_a_command_of_a_version_not_known_yet_is_kept_or_refused_with_what_to_do(
    bus: Bus, nats_url: str, tmp_path: Path, contracts: None
) -> None:
    async with tank(bus, nats_url, tmp_path, upgraded=False) as (_, http):
        body = {"id": "a", "data": {}, "version": 2}
        async with http.post("/commands/tank/fill", json=body) as response:
            assert response.status == 422
            assert "knows up to v1: upgrade it" in (await response.json())["detail"]
        await send(bus, "penstock.tank.fill.v2", {"millilitres": 2})
        assert "knows up to v1: upgrade it" in (await dead_letter(bus)).reason.detail
