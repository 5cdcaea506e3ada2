"""Commands on a real server: many at a time, none lost when an instance drains."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from penstock.client import Penstock
from penstock.contracts.progress import CreateProgress, UpdateProgress
from penstock.infra.bus import Bus
from penstock.infra.consuming import carrying_out
from penstock.infra.consuming.command_consumer import DELIVERED
from penstock.infra.deciding import decider
from penstock.infra.event_log import JetStreamEventLog
from penstock.infra.sender import Cause, Sender
from penstock.infra.testing import running_system
from penstock.progress.service import build
from support.streams import commands_waiting

COMMANDS = DELIVERED + 100  # more than the instances take in hand at a time


async def post(bus: Bus) -> None:
    sender = Sender(bus)
    cause = Cause(correlationid="flow")
    await asyncio.gather(
        *(
            sender.post(CreateProgress(), id=f"p{n}", command_id=f"c{n}", cause=cause)
            for n in range(COMMANDS)
        )
    )


async def test_what_was_delivered_is_finished_before_an_instance_ends(
    nats_url: str, prefix: str, tmp_path: Path
) -> None:
    async with await Bus.connect(nats_url, prefix=prefix) as bus:
        async with running_system(nats_url, prefix, tmp_path / "1", {"progress": build}):
            await post(bus)
        consumer = f"{bus.subjects.stream('cmd')}.progress-commands"
        info = await bus.api(f"CONSUMER.INFO.{consumer}")
        assert info["num_ack_pending"] == 0  # else the next one waits for them
        async with (
            running_system(nats_url, prefix, tmp_path / "2", {"progress": build}),
            asyncio.timeout(60),
        ):
            while await commands_waiting(bus):
                await asyncio.sleep(0.05)
        events = [record.event async for record in JetStreamEventLog(bus, "progress").read()]
        assert sorted(e.subject for e in events) == sorted(f"p{n}" for n in range(COMMANDS))


async def test_many_at_once_are_each_answered(nats_url: str, prefix: str, tmp_path: Path) -> None:
    async with (
        running_system(nats_url, prefix, tmp_path, {"progress": build}),
        Penstock(nats_url, prefix=prefix) as ps,
    ):
        states = await asyncio.gather(*(ps.progress.create(f"p{n}") for n in range(COMMANDS)))
        assert [state.id for state in states] == [f"p{n}" for n in range(COMMANDS)]


async def test_what_nobody_waits_for_comes_again_while_others_change_its_aggregate(
    nats_url: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decider, "TRIES", 1)  # a conflict is told at once
    monkeypatch.setattr(carrying_out, "RETRY", 0.05)
    cause, messages = Cause(correlationid="flow"), [f"m{n}" for n in range(60)]
    async with (
        running_system(nats_url, prefix, tmp_path / "1", {"progress": build}),
        running_system(nats_url, prefix, tmp_path / "2", {"progress": build}),
        Penstock(nats_url, prefix=prefix) as ps,
    ):
        await ps.progress.create("p")
        sender = Sender(ps.session.bus)
        updates = [UpdateProgress(percent=40, message=message) for message in messages]
        await asyncio.gather(
            *(
                sender.post(update, id="p", command_id=f"c{n}", cause=cause)
                for n, update in enumerate(updates)
            )
        )
        async with asyncio.timeout(60):
            while await commands_waiting(ps.session.bus):
                await asyncio.sleep(0.05)
        entries = await ps.progress.history("p")
        dead = await ps.session.bus.api(f"STREAM.INFO.{ps.session.bus.subjects.stream('dead')}")
        assert dead["state"]["messages"] == 0
        said = sorted(entry.data["message"] for entry in entries if "message" in entry.data)
        assert said == sorted(messages)
