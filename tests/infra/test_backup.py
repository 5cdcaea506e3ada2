"""Copies of streams, and systems made of them: equal, in order, and never half a one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from penstock.client import Penstock
from penstock.contracts.errors import NotFound, StartupError
from penstock.contracts.progress import CreateProgress
from penstock.contracts.subjects import Subjects
from penstock.infra.backup import (
    Backup,
    BackupError,
    Manifest,
    Restore,
    check,
    check_files,
    read_manifest,
)
from penstock.infra.backup.contents import compare, read
from penstock.infra.backup.order import in_order, left_out, must_be_whole
from penstock.infra.backup.taking import held
from penstock.infra.bus import Bus
from penstock.infra.nats_server import EmbeddedNats
from penstock.infra.sender import Cause, Sender
from penstock.infra.streams import provision, streams
from penstock.infra.testing import running_system
from penstock.infra.timers import Timers
from penstock.progress.service import build

BUILDERS = {"progress": build}
EVENTS, CHANGES = "EV_PROGRESS", "CHANGES"


def silent(what: str, stream: str, share: float) -> None:
    assert 0 <= share <= 1


@pytest.fixture
async def bus(nats_url: str, prefix: str) -> AsyncIterator[Bus]:
    """A connection to the session's server, with every stream and no service."""
    async with await Bus.connect(nats_url, prefix=prefix) as connected:
        await provision(connected)
        yield connected


@pytest.fixture
async def other(fresh_nats: EmbeddedNats, prefix: str) -> AsyncIterator[Bus]:
    """A connection to an empty server, with the same prefix."""
    async with await Bus.connect(fresh_nats.url, prefix=prefix) as connected:
        yield connected


async def publish(bus: Bus, count: int, *, first: int = 0) -> None:
    """Messages for the event stream of progress, some subjects with many."""
    for number in range(first, first + count):
        subject = bus.subjects.event("progress", f"a{number % 5}")
        await bus.publish_acked(subject, b"x" * number, {"Nats-Msg-Id": f"m{number}"})


def nothing_there(directory: Path) -> None:
    assert not directory.exists()
    assert not directory.with_name(directory.name + ".partial").exists()


async def taken(bus: Bus, directory: Path, *, verify: bool = True) -> Manifest:
    return await Backup(bus, directory, silent).take(verify=verify)


async def restored(bus: Bus, directory: Path) -> None:
    await Restore(bus, directory, read_manifest(directory), silent).run()


def test_every_stream_is_either_copied_or_left_out_for_a_reason() -> None:
    subjects = Subjects("p")
    names = [config["name"] for config in streams(subjects)]
    assert sorted(names) == sorted(in_order(subjects) + left_out(subjects))
    assert set(must_be_whole(subjects)) < set(in_order(subjects))


def test_queues_come_before_the_events_and_objects_after_them() -> None:
    order = in_order(Subjects("p"))
    events = [order.index(name) for name in order if "_EV_" in name]
    assert max(order.index(f"P_{name}") for name in ("CMD", "CHANGES", "DEAD")) < min(events)
    assert max(events) < order.index("OBJ_P_FILES")


async def test_a_restored_stream_has_every_message_at_its_place_and_goes_on_behind_it(
    bus: Bus, other: Bus, tmp_path: Path
) -> None:
    stream = bus.subjects.stream(EVENTS)
    await publish(bus, 300)
    await bus.api(f"STREAM.PURGE.{stream}", {"filter": bus.subjects.event("progress", "a4")})
    manifest = await taken(bus, tmp_path / "copy")
    await publish(bus, 10, first=300)
    await restored(other, tmp_path / "copy")
    [copy] = [copy for copy in manifest.streams if copy.name == stream]
    assert copy.contents and (copy.contents.messages, copy.contents.last) == (240, 300)
    assert await compare(bus, other, stream, silent) == copy.contents
    ack = await other.publish_acked(other.subjects.event("progress", "a1"), b"next")
    assert ack.seq == 301
    for config in streams(bus.subjects):
        if config["name"] in in_order(bus.subjects):
            found = (await other.api(f"STREAM.INFO.{config['name']}"))["config"]
            assert {key: found.get(key) for key in config} == config | {
                "subjects": found["subjects"]
            }
    assert await provision(other) == left_out(other.subjects)


async def test_a_copy_that_lacks_or_changes_a_message_is_found_out(
    bus: Bus, other: Bus, tmp_path: Path
) -> None:
    stream = bus.subjects.stream(EVENTS)
    await publish(bus, 3)
    await provision(other)
    await publish(other, 2)
    await other.publish_acked(other.subjects.event("progress", "a2"), b"forged")
    with pytest.raises(BackupError, match=r"message 1 .* is another one"):  # by its time
        await compare(bus, other, stream, silent)
    await other.api(f"STREAM.PURGE.{stream}", {"seq": 2})
    with pytest.raises(BackupError, match=r"message 1 .* is missing"):
        await compare(bus, other, stream, silent)


async def test_a_backup_says_what_its_streams_had_and_is_refused_if_they_have_not(
    bus: Bus, tmp_path: Path
) -> None:
    await publish(bus, 3)
    manifest = await taken(bus, tmp_path / "copy")
    await check(tmp_path / "copy", manifest, silent, None)
    forged = [
        replace(copy, contents=replace(copy.contents, digest="0" * 64)) if copy.contents else copy
        for copy in manifest.streams
    ]
    with pytest.raises(BackupError, match="use another backup"):
        await check(tmp_path / "copy", replace(manifest, streams=tuple(forged)), silent, None)


async def test_what_is_purged_while_it_is_copied_is_noticed_but_not_what_expires(bus: Bus) -> None:
    stream, subject = bus.subjects.stream(EVENTS), bus.subjects.events("progress")
    await bus.publish_acked(bus.subjects.decision("progress", "a", "k"), b"", {"Nats-TTL": "1s"})
    await publish(bus, 10)
    assert await held(bus, stream, subject, 11) == 10
    await publish(bus, 5, first=10)
    assert await held(bus, stream, subject, 11) == 10
    await bus.api(f"STREAM.PURGE.{stream}", {"filter": bus.subjects.event("progress", "a0")})
    assert await held(bus, stream, subject, 11) == 8
    assert await held(bus, stream, "none.>", 11) == 0


async def test_decisions_are_in_a_backup_and_still_expire_after_it(
    bus: Bus, other: Bus, tmp_path: Path
) -> None:
    stream = bus.subjects.stream(EVENTS)
    await publish(bus, 2)
    for key, ttl in (("long", "3600s"), ("short", "2s")):
        subject = bus.subjects.decision("progress", "a", key)
        await bus.publish_acked(subject, b"so", {"Nats-TTL": ttl})
    await taken(bus, tmp_path / "copy")
    await restored(other, tmp_path / "copy")
    [kept] = await other.direct_get(stream, {"seq": 3})
    assert kept.data == b"so"
    async with asyncio.timeout(60):
        while await other.direct_get(stream, {"seq": 4}):
            await asyncio.sleep(0.05)
    assert (await other.api(f"STREAM.INFO.{stream}"))["state"]["last_seq"] == 4


async def test_commands_that_wait_for_their_service_are_carried_out_after_the_restore(
    bus: Bus, fresh_nats: EmbeddedNats, other: Bus, tmp_path: Path, prefix: str
) -> None:
    for number in range(5):
        cause = Cause(correlationid="flow")
        await Sender(bus).post(
            CreateProgress(), id=f"p{number}", command_id=f"c{number}", cause=cause
        )
    await taken(bus, tmp_path / "copy")
    await restored(other, tmp_path / "copy")
    async with (
        running_system(fresh_nats.url, prefix, tmp_path / "data", BUILDERS),
        Penstock(fresh_nats.url, prefix=prefix) as ps,
        asyncio.timeout(60),
    ):
        for number in range(5):
            async for _ in ps.progress.watch(f"p{number}"):
                break


async def test_a_consumer_begins_behind_what_it_had_acknowledged(
    bus: Bus, other: Bus, tmp_path: Path
) -> None:
    stream, name = bus.subjects.stream(EVENTS), "reader"
    config = {"durable_name": name, "ack_policy": "explicit", "filter_subject": ""}
    await bus.api(f"CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": config})
    await publish(bus, 6)
    subscription = await bus.js.pull_subscribe_bind(name, stream)
    got = await subscription.fetch(5, timeout=30)
    for msg in (got[0], got[1], got[3]):
        await msg.ack_sync()
    await taken(bus, tmp_path / "copy", verify=False)
    await restored(other, tmp_path / "copy")
    again = await (await other.js.pull_subscribe_bind(name, stream)).fetch(4, timeout=30)
    assert [msg.metadata.sequence.stream for msg in again] == [3, 4, 5, 6]


async def test_a_timer_that_was_set_before_the_backup_falls_due_after_the_restore(
    bus: Bus, other: Bus, tmp_path: Path
) -> None:
    await Timers(bus, "jobs").set("j", datetime.now(UTC) + timedelta(seconds=2), b"now")
    manifest = await taken(bus, tmp_path / "copy", verify=False)
    await restored(other, tmp_path / "copy")
    [sched] = [copy for copy in manifest.streams if copy.name == bus.subjects.stream("sched")]
    assert sched.state["messages"] == 1
    async with asyncio.timeout(60):
        request = {"last_by_subj": other.subjects.due("jobs", "j")}
        while not (due := await other.direct_get(sched.name, request)):
            await asyncio.sleep(0.05)
    assert due[0].data == b"now"


async def test_an_interrupted_restore_is_refused_by_services_and_finished_by_another_one(
    bus: Bus, fresh_nats: EmbeddedNats, other: Bus, tmp_path: Path, prefix: str
) -> None:
    copy = tmp_path / "copy"
    await publish(bus, 3)
    await taken(bus, copy)
    file = copy / f"{bus.subjects.stream(EVENTS)}.snapshot"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BackupError, match=f"does not take the copy of {file.stem}"):
        await restored(other, copy)
    with pytest.raises(StartupError, match="penstock restore"):
        async with running_system(fresh_nats.url, prefix, tmp_path / "data", BUILDERS):
            pass
    file.write_bytes(whole)
    await restored(other, copy)
    assert (await read(other, file.stem, silent)).messages == 3
    with pytest.raises(BackupError, match="nothing is overwritten"):
        await restored(other, copy)


async def test_a_view_of_what_came_after_the_backup_is_not_taken_for_the_restored_one(
    nats_url: str, fresh_nats: EmbeddedNats, other: Bus, tmp_path: Path, prefix: str
) -> None:
    data = tmp_path / "data"
    async with (
        running_system(nats_url, prefix, data, BUILDERS),
        Penstock(nats_url, prefix=prefix) as ps,
    ):
        await provision(ps.session.bus)
        await ps.progress.create("before")
        await taken(ps.session.bus, tmp_path / "copy", verify=False)
        await ps.progress.create("after")
    await restored(other, tmp_path / "copy")
    async with (
        running_system(fresh_nats.url, prefix, data, BUILDERS),
        Penstock(fresh_nats.url, prefix=prefix) as ps,
    ):
        await ps.progress.create("new")  # at the sequence that "after" had
        found = [state.id for state in await ps.progress.list()]
        assert sorted(found) == ["before", "new"]
        with pytest.raises(NotFound):
            await ps.progress.get("after")


async def test_a_file_or_a_manifest_that_is_not_as_it_was_written_is_found_out(
    bus: Bus, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    await publish(bus, 3)
    manifest = await taken(bus, copy, verify=False)
    check_files(copy, manifest, silent)
    file = copy / f"{bus.subjects.stream(EVENTS)}.snapshot"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"?")
    with pytest.raises(BackupError, match=f"{file.name} was changed"):
        check_files(copy, manifest, silent)
    file.write_bytes(whole[:-1])
    with pytest.raises(BackupError, match=f"has {len(whole) - 1} bytes, not {len(whole)}"):
        check_files(copy, manifest, silent)
    file.unlink()
    with pytest.raises(BackupError, match=r"cannot be read \(No such file"):
        check_files(copy, manifest, silent)
    written = (copy / "manifest.json").read_text()
    for old, new, says in (
        ('"format": 1', '"format": 2', "has format 2 and this Penstock reads up to 1"),
        ('"messages": 3', '"messages": 4', "was changed"),
        ('"streams"', '"strudel"', "streams"),
        ("{", "", "cannot be read"),
    ):
        (copy / "manifest.json").write_text(written.replace(old, new, 1))
        with pytest.raises(BackupError, match=says):
            read_manifest(copy)


async def test_a_place_that_is_in_use_is_left_alone(bus: Bus, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(BackupError, match="not empty"):
        await taken(bus, tmp_path / "full")
    (tmp_path / "copy.partial").mkdir()
    (tmp_path / "copy.partial" / "mine").touch()
    with pytest.raises(BackupError, match="in the way"):
        await taken(bus, tmp_path / "copy")
    first, second = await asyncio.gather(
        taken(bus, tmp_path / "twice", verify=False),
        taken(bus, tmp_path / "twice", verify=False),
        return_exceptions=True,
    )
    assert isinstance(first, Manifest)
    assert isinstance(second, BackupError) and "Another backup" in str(second)
    assert replace(read_manifest(tmp_path / "twice"), checksum="") == first


async def test_a_system_that_is_not_there_is_told_so(
    other: Bus, tmp_path: Path, prefix: str
) -> None:
    with pytest.raises(BackupError, match="PENSTOCK_PREFIX"):
        await taken(other, tmp_path / "copy")
    nothing_there(tmp_path / "copy")
