"""What cannot be handled is kept with its reason, and holds nothing else back."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from penstock.client import Penstock
from penstock.infra.bus import Bus
from penstock.infra.dead_letters import DeadLetter
from penstock.infra.host import Host
from penstock.infra.testing import running_system
from penstock.progress.service import build


@pytest.fixture
async def bus(nats_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[Bus]:
    async with (
        running_system(nats_url, prefix, tmp_path, {"progress": build}) as _,
        await Bus.connect(nats_url, prefix=prefix) as connected,
    ):
        yield connected


@pytest.fixture
async def system(nats_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[Host]:
    async with running_system(nats_url, prefix, tmp_path, {"progress": build}) as host:
        yield host


async def dead_letter(bus: Bus) -> DeadLetter:
    async with asyncio.timeout(10):
        while True:
            request = {"last_by_subj": bus.subjects.dead("progress")}
            if found := await bus.direct_get(bus.subjects.stream("dead"), request):
                return msgspec.json.decode(found[0].data, type=DeadLetter)
            await asyncio.sleep(0.01)


async def waiting_commands(bus: Bus) -> int:
    info = await bus.api(f"STREAM.INFO.{bus.subjects.stream('cmd')}")
    return int(info["state"]["messages"])


@pytest.mark.parametrize("body", [b"not json", b"\xff\xfe", b"[]", b'{"specversion":"0.3"}'])
async def test_a_body_that_is_no_command_lands_among_the_dead(bus: Bus, body: bytes) -> None:
    subject = bus.subjects.command("progress", "create")
    await bus.publish_acked(subject, body)
    letter = await dead_letter(bus)
    kept = letter.body.encode() if letter.body is not None else None
    assert (kept or base64.b64decode(letter.body_base64 or "")) == body
    assert (letter.subject, letter.reason.title) == (subject, "Invalid message")


async def test_a_refusal_that_nobody_waits_for_lands_among_the_dead(
    system: Host, nats_url: str, prefix: str
) -> None:
    async with (
        Penstock(nats_url, prefix=prefix) as ps,
        await Bus.connect(nats_url, prefix=prefix) as bus,
    ):
        from penstock.contracts.progress import CompleteProgress, CreateProgress

        await ps.session.post(CompleteProgress(), id="nobody")
        letter = await dead_letter(bus)
        assert letter.reason.title == "Not found"
        assert "nobody" in letter.reason.detail
        await ps.session.post(CreateProgress(), id="somebody", command_id="c1")
        again = await ps.session.command(CreateProgress(), id="somebody", command_id="c1")
        [created] = await ps.progress.history("somebody")
        assert again.sequence == created.sequence
        async with asyncio.timeout(10):
            while await waiting_commands(bus):
                await asyncio.sleep(0.01)


async def test_a_command_with_an_unknown_field_is_accepted(bus: Bus) -> None:
    body = {
        "specversion": "1.0",
        "id": "c-1",
        "source": "/test",
        "type": "penstock.progress.create.v1",
        "subject": "p",
        "time": "2026-01-31T09:30:00Z",
        "correlationid": "f",
        "novelty": 1,
        "data": {"stages": ["a"], "colour": "blue"},
    }
    await bus.publish_acked(bus.subjects.command("progress", "create"), msgspec.json.encode(body))
    async with asyncio.timeout(10):
        while await waiting_commands(bus):
            await asyncio.sleep(0.01)
    dead = await bus.api(f"STREAM.INFO.{bus.subjects.stream('dead')}")
    assert dead["state"]["messages"] == 0
    stored = await bus.api(f"STREAM.INFO.{bus.subjects.event_stream('progress')}")
    assert stored["state"]["messages"] == 1


async def test_an_event_that_cannot_be_folded_does_not_hold_back_the_others(
    system: Host, nats_url: str, prefix: str
) -> None:
    async with (
        Penstock(nats_url, prefix=prefix) as ps,
        await Bus.connect(nats_url, prefix=prefix) as bus,
    ):
        await bus.publish_acked(bus.subjects.event("progress", "broken"), b"{}")
        await ps.progress.create("whole")
        assert (await ps.progress.get("whole")).id == "whole"
        assert (await dead_letter(bus)).sequence == 1
