"""Commands go from their stream once they are done, and no others, whatever was killed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from penstock.contracts.errors import PenstockError
from penstock.contracts.progress import CompleteProgress, CreateProgress
from penstock.infra.backup import Backup, Restore, read_manifest
from penstock.infra.bus import Bus, Stored
from penstock.infra.consuming.clearing import DOUBTFUL
from penstock.infra.consuming.consumers import update_consumer
from penstock.infra.consuming.done_commands import DoneCommands
from penstock.infra.event_log import Durability, JetStreamEventLog
from penstock.infra.nats_server import EmbeddedNats
from penstock.infra.sender import Cause, Sender
from penstock.infra.streams import provision, streams
from penstock.infra.testing import running_system
from penstock.progress.service import build
from support.streams import commands_waiting, everything

# No commands but those of the tests.
running = partial(running_system, builders={"progress": build}, retention="")
CONSUMER = "progress-commands"


@pytest.fixture
async def bus(nats_url: str, prefix: str) -> AsyncIterator[Bus]:
    """A connection to the session's server, with every stream and no service."""
    async with await Bus.connect(nats_url, prefix=prefix) as connected:
        await provision(connected)
        yield connected


async def create(bus: Bus, id: str) -> None:
    cause = Cause(correlationid="flow")
    await Sender(bus).post(CreateProgress(), id=id, command_id=f"c-{id}", cause=cause)


async def refused(bus: Bus, id: str) -> None:
    """A command that becomes a dead letter."""
    cause = Cause(correlationid="flow")
    await Sender(bus).post(CompleteProgress(), id=id, command_id=f"c-{id}", cause=cause)


async def left(bus: Bus) -> list[str]:
    """The subjects of the commands in the stream, without their prefix."""
    found = await everything(bus, bus.subjects.stream("cmd"))
    return [message.partition(b"\n")[0].decode().partition(".")[2] for message in found]


async def until_left(bus: Bus, *subjects: str) -> None:
    async with asyncio.timeout(20):
        while await left(bus) != list(subjects):
            await asyncio.sleep(0.05)


async def until_done(bus: Bus) -> None:
    async with asyncio.timeout(20):
        while await commands_waiting(bus):
            await asyncio.sleep(0.02)


async def created(bus: Bus) -> Counter[str]:
    """How often each progress was."""
    return Counter(
        [record.event.subject async for record in JetStreamEventLog(bus, "progress").read()]
    )


async def letters(bus: Bus) -> list[str]:
    found = await everything(bus, bus.subjects.stream("dead"))
    return [message.partition(b"\n")[0].decode().rpartition(".")[2] for message in found]


async def state(bus: Bus) -> Any:
    return (await bus.api(f"STREAM.INFO.{bus.subjects.stream('cmd')}"))["state"]


async def test_a_service_removes_its_own_and_leaves_those_of_others(
    bus: Bus, nats_url: str, prefix: str, tmp_path: Path
) -> None:
    for service in ("jobs", "nobody", "progress-of-others"):
        await bus.publish_acked(bus.subjects.command(service, "create"), b"{}")
    await create(bus, "a")
    async with running(nats_url, prefix, tmp_path):
        await create(bus, "b")
        await until_left(
            bus, "cmd.jobs.create", "cmd.nobody.create", "cmd.progress-of-others.create"
        )
        assert await created(bus) == {"a": 1, "b": 1}


async def test_what_nobody_understands_is_kept_as_a_letter_before_it_goes(
    bus: Bus, nats_url: str, prefix: str, tmp_path: Path
) -> None:
    subjects = [bus.subjects.command("progress", verb) for verb in ("unheard-of", "un.heard.of")]
    for subject in subjects:
        await bus.publish_acked(subject, b"{}")
    async with running(nats_url, prefix, tmp_path):
        await until_left(bus)
    assert await letters(bus) == ["1", "2"]


async def test_what_a_killed_service_had_done_is_done_once_and_has_one_letter(
    bus: Bus, nats_url: str, prefix: str, tmp_path: Path
) -> None:
    async with running(nats_url, prefix, tmp_path / "1") as host:
        await host.services[0].clearing.stop()
        for number in range(10):
            await create(bus, f"p{number}")
            await refused(bus, f"nobody{number}")
        await until_done(bus)
    assert (await state(bus))["messages"] == 20
    async with running(nats_url, prefix, tmp_path / "2"):
        await until_left(bus)
    assert set((await created(bus)).values()) == {1}
    assert len(await letters(bus)) == len(set(await letters(bus))) == 10
    assert (await state(bus))["last_seq"] == 20, "nothing was put back"


@pytest.mark.parametrize("durability", ["fsync"], indirect=True)
async def test_what_the_server_lost_sight_of_is_carried_out(
    killable: tuple[EmbeddedNats, Bus], tmp_path: Path
) -> None:
    server, bus = killable
    await provision(bus)
    async with running(server.url, bus.subjects.prefix, tmp_path / "1"):
        await create(bus, "first")
        await until_left(bus)
    for number in range(5):
        await create(bus, f"p{number}")
        await refused(bus, f"nobody{number}")
    # What a killed server may do: take them for acknowledged.
    await bus.api(f"CONSUMER.RESET.{bus.subjects.stream('cmd')}.{CONSUMER}", {"seq": 12})
    await killed(server, bus)
    assert await commands_waiting(bus) == 0
    async with running(server.url, bus.subjects.prefix, tmp_path / "2"):
        await until_left(bus)
    assert await created(bus) == {"first": 1, **{f"p{number}": 1 for number in range(5)}}
    assert len(await letters(bus)) == 5
    assert (await state(bus))["last_seq"] == 11, "nothing was put back"


async def test_what_was_done_with_the_present_server_is_in_no_doubt(
    bus: Bus, nats_url: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again: list[int] = []
    once_more = DoneCommands._once_more

    async def counted(self: DoneCommands, one: Stored) -> None:
        again.append(one.sequence)
        await once_more(self, one)

    monkeypatch.setattr(DoneCommands, "_once_more", counted)
    for id in "abc":
        async with running(nats_url, prefix, tmp_path / id) as host:
            await until_left(bus)
            await host.services[0].clearing.stop()
            await create(bus, id)
            await until_done(bus)
    assert (await state(bus))["messages"] == 1
    assert not again, "it is another process, and the same server"
    # As if another had been there meanwhile.
    stream = bus.subjects.stream("cmd")
    config = (await bus.api(f"CONSUMER.INFO.{stream}.{CONSUMER}"))["config"]
    assert config["metadata"][DOUBTFUL] == f"{bus.nc.server_id} 0"
    config["metadata"][DOUBTFUL] = "ANOTHER 0"
    await update_consumer(bus, stream, config)
    async with running(nats_url, prefix, tmp_path / "last"):
        await until_left(bus)
    assert again == [3]
    assert await created(bus) == {"a": 1, "b": 1, "c": 1}


async def killed(server: EmbeddedNats, bus: Bus) -> None:
    """Kill the server, and wait until it is back."""
    connections = bus.connections
    os.kill(server.pid, signal.SIGKILL)
    async with asyncio.timeout(20):
        while bus.connections == connections:
            await asyncio.sleep(0.02)


async def test_a_consumer_that_was_deleted_delivers_again_what_is_still_there(
    bus: Bus, nats_url: str, prefix: str, tmp_path: Path
) -> None:
    async with running(nats_url, prefix, tmp_path / "1") as host:
        await host.services[0].clearing.stop()
        await create(bus, "a")
        await refused(bus, "nobody")
        await until_done(bus)
    await bus.api(f"CONSUMER.DELETE.{bus.subjects.stream('cmd')}.{CONSUMER}")
    async with running(nats_url, prefix, tmp_path / "2"):
        await create(bus, "b")
        await until_left(bus)
    assert await created(bus) == {"a": 1, "b": 1}
    assert await letters(bus) == ["2"]


async def test_what_was_done_before_a_backup_is_done_once_after_the_restore(
    bus: Bus, nats_url: str, fresh_nats: EmbeddedNats, prefix: str, tmp_path: Path
) -> None:
    async with running(nats_url, prefix, tmp_path / "1") as host:
        await host.services[0].clearing.stop()
        for number in range(5):
            await create(bus, f"p{number}")
            await refused(bus, f"nobody{number}")
        await until_done(bus)
    await create(bus, "waits")
    copy = tmp_path / "copy"
    await Backup(bus, copy, silent).take(verify=False)
    async with await Bus.connect(fresh_nats.url, prefix=prefix) as other:
        await Restore(other, copy, read_manifest(copy), silent).run()
        assert (await state(other))["messages"] == 11
        async with running(fresh_nats.url, prefix, tmp_path / "2"):
            await until_left(other)
        assert await created(other) == {"waits": 1, **{f"p{number}": 1 for number in range(5)}}
        assert len(await letters(other)) == 5


def silent(what: str, stream: str, share: float) -> None:
    assert 0 <= share <= 1


async def test_a_queue_and_a_consumer_of_an_earlier_version_go_on(
    nats_url: str, prefix: str, tmp_path: Path
) -> None:
    async with await Bus.connect(nats_url, prefix=prefix) as bus:
        stream = bus.subjects.stream("cmd")
        [config] = [one for one in streams(bus.subjects) if one["name"] == stream]
        await bus.api(f"STREAM.CREATE.{stream}", {**config, "retention": "workqueue"})
        consumer = {
            "durable_name": CONSUMER,
            "filter_subject": bus.subjects.command("progress", "*"),
            "deliver_subject": bus.subjects.deliveries(CONSUMER),
            "deliver_group": CONSUMER,
            "ack_policy": "explicit",
            "ack_wait": 500_000_000,
        }
        await bus.api(
            f"CONSUMER.CREATE.{stream}.{CONSUMER}.{consumer['filter_subject']}",
            {"stream_name": stream, "config": consumer, "action": "create"},
        )
        for number in range(3):
            await create(bus, f"p{number}")
        taken = await bus.nc.subscribe(bus.subjects.deliveries(CONSUMER), CONSUMER)
        first, second = await taken.next_msg(5), await taken.next_msg(5)
        await first.nak()  # and the second one is lost with its service
        await taken.unsubscribe()
        async with running(nats_url, prefix, tmp_path):
            await create(bus, "new")
            await until_left(bus)
            found = await bus.api(f"CONSUMER.INFO.{stream}.{CONSUMER}")
        assert found["config"]["filter_subject"] == bus.subjects.commands("progress")
        info = await bus.api(f"STREAM.INFO.{stream}")
        assert info["config"]["retention"] == "workqueue"
        assert await created(bus) == {"p0": 1, "p1": 1, "p2": 1, "new": 1}
        assert second.data


@pytest.mark.parametrize("durability", ["fsync"], indirect=True)
async def test_a_killed_server_neither_loses_nor_doubles_any(
    killable: tuple[EmbeddedNats, Bus], durability: Durability, tmp_path: Path
) -> None:
    server, bus = killable
    await provision(bus)
    sent: list[str] = []

    async def send() -> None:
        for number in range(200):
            post = refused if number % 4 == 0 else create
            async with asyncio.timeout(30):
                while True:
                    try:
                        await post(bus, f"p{number}")
                        break
                    except PenstockError:  # the server is away
                        await asyncio.sleep(0.05)
            sent.append(f"p{number}")

    async with running(server.url, bus.subjects.prefix, tmp_path / "s", durability=durability):
        sending = asyncio.create_task(send())
        for share in (50, 120):
            while len(sent) < share:
                await asyncio.sleep(0.01)
            await killed(server, bus)
        await sending
        await until_left(bus)
    assert await created(bus) == {f"p{n}": 1 for n in range(200) if n % 4}
    assert len(await letters(bus)) == len(set(await letters(bus))) == 50
