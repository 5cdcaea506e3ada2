"""An export that was accepted is finished, whatever happens to the service in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import pytest

from penstock.client import Penstock
from penstock.contracts.envelope import wrap
from penstock.contracts.errors import ExportFailed, Refused, Timeout
from penstock.contracts.exports import (
    SERVICE,
    Document,
    ExportStarted,
    ExportState,
    Segment,
)
from penstock.exports.domain import State
from penstock.exports.exporter import ATTEMPTS
from penstock.exports.formats import FORMATS, Format
from penstock.exports.formats.format import CHUNK
from penstock.exports.service import build
from penstock.infra.event_log import JetStreamEventLog
from penstock.infra.host import Build
from penstock.infra.service import Frame, Service
from penstock.infra.testing import running_system

TALK = Document(title="T", segments=(Segment(text="a", start=0, end=1),))


def that_never_renders(frame: Frame) -> Service[State]:
    """The service as it is when it dies between taking a request and beginning its work."""
    service = build(frame)
    service.parts.clear()
    return service


@pytest.fixture
async def ps(nats_url: str, prefix: str) -> AsyncIterator[Penstock]:
    """A client that outlives the services."""
    async with Penstock(nats_url, prefix=prefix) as client:
        yield client


async def ended(ps: Penstock, id: str) -> ExportState:
    async with asyncio.timeout(30):
        return [state async for state in ps.exports.watch(id)][-1]


async def append_starts(ps: Penstock, id: str, count: int) -> None:
    """As an instance does that dies `count` times while it renders."""
    log = JetStreamEventLog(ps.session.bus, SERVICE, durability="os")
    loaded = await log.load(id)
    sequence, version = loaded.sequence, len(loaded.events)
    for n in range(1, count + 1):
        event = wrap(
            ExportStarted(),
            id=f"{id}:{n}",
            subject=id,
            time=datetime.now(UTC),
            correlationid="f",
            version=version + n,
        )
        sequence = (await log.append([event], expected=sequence)).sequence


async def requested(
    ps: Penstock, nats_url: str, prefix: str, directory: Path, *, id: str = "e"
) -> None:
    """Ask for an export from a service that stops before it begins."""
    builders: dict[str, Build] = {SERVICE: that_never_renders}
    async with running_system(nats_url, prefix, directory, builders):
        await ps.exports.put("talk", "t", TALK)
        state = await ps.exports.export("talk", "t", "txt", id=id)
        assert state.state == "pending"
        with pytest.raises(Refused, match="is pending"):
            await ps.exports.read(id)
        with pytest.raises(Timeout, match="goes on"):
            await ps.exports.export("talk", "t", "txt", id=id, async_mode=False, timeout=0.1)


async def test_an_export_that_a_crash_left_waiting_is_completed_once(
    ps: Penstock, nats_url: str, prefix: str, tmp_path: Path
) -> None:
    await requested(ps, nats_url, prefix, tmp_path)
    for _ in range(2):
        async with running_system(nats_url, prefix, tmp_path, {SERVICE: build}):
            assert (await ended(ps, "e")).state == "completed"
            assert await ps.exports.read("e") == b"T\n\na\n"
            types = [entry.type for entry in await ps.exports.history("e")]
            assert types == [
                f"penstock.exports.{name}.v1" for name in ("requested", "started", "completed")
            ]


async def test_an_export_that_a_crash_interrupted_is_begun_again(
    ps: Penstock, nats_url: str, prefix: str, tmp_path: Path
) -> None:
    await requested(ps, nats_url, prefix, tmp_path)
    await append_starts(ps, "e", 1)
    async with running_system(nats_url, prefix, tmp_path, {SERVICE: build}):
        state = await ended(ps, "e")
    assert (state.state, state.attempts) == ("completed", 2)


async def test_an_export_that_never_ends_is_given_up(
    ps: Penstock, nats_url: str, prefix: str, tmp_path: Path
) -> None:
    await requested(ps, nats_url, prefix, tmp_path)
    await append_starts(ps, "e", ATTEMPTS)
    async with running_system(nats_url, prefix, tmp_path, {SERVICE: build}):
        with pytest.raises(ExportFailed, match="begun 10 times and never finished"):
            await ps.exports.export("talk", "t", "txt", id="e", async_mode=False, timeout=60)


async def test_several_instances_share_the_exports(
    ps: Penstock, nats_url: str, prefix: str, tmp_path: Path
) -> None:
    one = running_system(nats_url, prefix, tmp_path / "1", {SERVICE: build})
    two = running_system(nats_url, prefix, tmp_path / "2", {SERVICE: build})
    async with one, two:
        await ps.exports.put("talk", "t", TALK)
        ids = [f"e{n}" for n in range(20)]
        await asyncio.gather(*(ps.exports.export("talk", "t", "srt", id=id) for id in ids))
        states = await asyncio.gather(*(ended(ps, id) for id in ids))
        assert {(state.state, state.attempts) for state in states} == {("completed", 1)}
        for id in ids:
            assert len(await ps.exports.history(id)) == 3


async def test_an_export_in_hand_when_its_service_stops_is_finished_by_the_next(
    ps: Penstock, nats_url: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, writing = True, Event()

    def write(_: Document) -> Iterator[str]:
        while slow:
            writing.set()
            yield "x" * CHUNK
        yield "done"

    format = Format(name="slow", media_type="text/plain", suffix=".txt", write=write)
    monkeypatch.setitem(FORMATS, "slow", format)
    builders: dict[str, Build] = {SERVICE: build}
    async with running_system(nats_url, prefix, tmp_path, builders, drain_seconds=0.0):
        await ps.exports.put("talk", "t", TALK)
        await ps.exports.export("talk", "t", "slow", id="e")
        assert await asyncio.to_thread(writing.wait, 20)
    slow = False
    async with running_system(nats_url, prefix, tmp_path, builders):
        state = await ended(ps, "e")
        assert (state.state, state.attempts) == ("completed", 2)
        assert await ps.exports.read("e") == b"done"


async def test_a_writer_that_breaks_fails_its_export_and_no_other(
    ps: Penstock, nats_url: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(document: Document) -> Iterator[str]:
        yield str(1 // (len(document.segments) - 1))

    format = Format(name="broken", media_type="text/plain", suffix=".txt", write=write)
    monkeypatch.setitem(FORMATS, "broken", format)
    async with running_system(nats_url, prefix, tmp_path, {SERVICE: build}):
        await ps.exports.put("talk", "t", TALK)
        with pytest.raises(ExportFailed, match="ZeroDivisionError; see the log"):
            await ps.exports.export("talk", "t", "broken", async_mode=False)
        assert (await ps.exports.export("talk", "t", "txt", async_mode=False)).is_over


async def test_a_request_that_the_server_lost_sight_of_is_carried_out(
    nats_url: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ps: Penstock
) -> None:
    monkeypatch.setattr("penstock.exports.service.LOOK", 0.2)
    async with running_system(nats_url, prefix, tmp_path / "1", {"exports": build}):
        await ps.exports.put("talk", "t", TALK)  # the consumer is there
    async with running_system(nats_url, prefix, tmp_path / "1", {"exports": that_never_renders}):
        await ps.exports.export("talk", "t", "txt", id="lost")
    bus = ps.session.bus
    stream = bus.subjects.event_stream(SERVICE)
    await bus.api(f"CONSUMER.RESET.{stream}.exports-renderer", {"seq": 100})
    async with running_system(nats_url, prefix, tmp_path / "2", {"exports": build}):
        assert (await ended(ps, "lost")).state == "completed"
