"""Commands on a real server: many at a time, none lost when an instance drains."""

from __future__ import annotations

import asyncio
from pathlib import Path

from penstock.client import Penstock
from penstock.contracts.progress import CreateProgress
from penstock.infra.bus import Bus
from penstock.infra.consuming.command_consumer import DELIVERED
from penstock.infra.event_log import JetStreamEventLog
from penstock.infra.sender import Cause, Sender
from penstock.infra.testing import running_system
from penstock.progress.service import build

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


async def unhandled(bus: Bus) -> int:
    state = (await bus.api(f"STREAM.INFO.{bus.subjects.stream('cmd')}"))["state"]
    return int(state["messages"])


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
            asyncio.timeout(15),
        ):
            while await unhandled(bus):
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
