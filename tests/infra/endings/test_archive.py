"""Finished work leaves the log for the archive: told in full, there once, decided on no more."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.client import Archived, Erased, NotFound, Penstock
from penstock.contracts.answers import HistoryEntry, HistoryOf
from penstock.contracts.envelope import Envelope, wrap
from penstock.contracts.lifecycle import ARCHIVE, ERASE, Archiving
from penstock.contracts.progress import ListProgress, ProgressState
from penstock.infra.endings.segments import Archive, Contents
from penstock.infra.host import Host
from penstock.infra.objects import Objects
from penstock.infra.service import Frame, Service
from penstock.infra.settings import Settings
from penstock.infra.testing import running_system
from penstock.progress.service import build
from support.dying import Died, MortalBus, living


@pytest.fixture
async def system(nats_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[Host]:
    async with running_system(nats_url, prefix, tmp_path, {"progress": build}) as host:
        yield host


@pytest.fixture
async def ps(system: Host, nats_url: str, prefix: str) -> AsyncIterator[Penstock]:
    async with Penstock(nats_url, prefix=prefix, timeout=60) as client:
        yield client


def archive(*states: str, before: datetime | None = None) -> msgspec.Struct:
    before = before or datetime.now(UTC) + timedelta(hours=1)
    return ARCHIVE["progress"](before=dict.fromkeys(states or ("completed",), before))


async def archived(ps: Penstock, command: msgspec.Struct | None = None) -> Archiving:
    outcome = await ps.session.command(command or archive(), id="archive")
    return msgspec.json.decode(outcome.data, type=Archiving)


async def complete(ps: Penstock, *ids: str) -> None:
    for id in ids:
        await ps.progress.create(id, metadata={"of": id})
        await ps.progress.update(id, 50)
        await ps.progress.complete(id)


async def in_log(ps: Penstock, id: str) -> list[str]:
    bus = ps.session.bus
    subject = bus.subjects.event("progress", id)
    request = {"seq": 1, "next_by_subj": subject, "batch": 100}
    found = await bus.direct_get(bus.subjects.event_stream("progress"), request)
    return [msgspec.json.decode(m.data)["type"].split(".")[2] for m in found]


def names(entries: list[HistoryEntry]) -> list[str]:
    return [entry.type.split(".")[2] for entry in entries]


async def segment(ps: Penstock, name: str) -> Contents:
    return await Archive(Objects(ps.session.bus), "progress").read(name)


async def test_what_is_finished_and_old_moves_to_the_archive_and_all_else_stays(
    ps: Penstock,
) -> None:
    await complete(ps, "old", "other")
    await ps.progress.create("going-on")
    await ps.progress.create("broken")
    await ps.progress.fail("broken", "boom")
    done = await archived(ps)
    assert (done.aggregates, done.more) == (2, False)
    assert await in_log(ps, "old") == ["archived"]
    assert await in_log(ps, "going-on") == ["created"]
    assert await in_log(ps, "broken") == ["created", "failed"]
    assert {state.id for state in await ps.progress.list()} == {"going-on", "broken"}
    assert done.segment is not None
    assert set(await segment(ps, done.segment)) == {"old", "other"}


@pytest.mark.parametrize("patience", [30.0, 0.1])
async def test_what_was_finished_before_is_archived_also_while_the_view_is_behind(
    ps: Penstock, system: Host, monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    monkeypatch.setattr("penstock.infra.views.projector.END", patience)
    [service] = system.services
    await complete(ps, "known")
    await ps.progress.get("known")
    async with service.projector.paused():
        await complete(ps, "unknown")
        archiving = asyncio.create_task(archived(ps))
        await asyncio.wait((archiving,), timeout=0.5)
    assert (await archiving).aggregates == 2
    assert await in_log(ps, "unknown") == ["archived"]


async def test_lists_say_up_to_when_something_is_in_the_archive(ps: Penstock) -> None:
    await complete(ps, "old")
    question = ListProgress()

    async def begins() -> datetime | None:
        _, answer = await ps.session.ask("progress", "list", question, list[ProgressState])
        return answer.archived_to

    assert await begins() is None
    ended = (await ps.progress.history("old"))[-1].time
    await archived(ps)
    async with asyncio.timeout(60):
        while await begins() is None:
            await asyncio.sleep(0.01)
    assert await begins() == ended


async def test_what_is_not_old_enough_stays(ps: Penstock) -> None:
    await complete(ps, "young")
    done = await archived(ps, archive(before=datetime.now(UTC) - timedelta(hours=1)))
    assert done == Archiving()
    assert await in_log(ps, "young") == ["created", "updated", "completed"]


async def test_its_history_and_any_moment_of_it_are_told_as_before(ps: Penstock) -> None:
    await complete(ps, "old")
    before = await ps.progress.history("old")
    await archived(ps)
    after = await ps.progress.history("old")
    assert after[:-1] == before
    assert names(after) == ["created", "updated", "completed", "archived"]
    for entry, percent in zip(before, (0.0, 50.0, 100.0), strict=True):
        then = await ps.progress.get("old", at=entry.sequence)
        assert then.percent == percent
    with pytest.raises(Archived, match="'old' is over and in the archive"):
        await ps.progress.get("old")
    with pytest.raises(Archived):
        await ps.progress.get("old", at=after[-1].sequence)


async def test_its_id_can_begin_anew_and_both_lives_are_told(ps: Penstock) -> None:
    await complete(ps, "again")
    await archived(ps)
    with pytest.raises(NotFound, match="create it first"):
        await ps.progress.update("again", 10)
    await ps.progress.create("again", metadata={"life": 2})
    assert (await ps.progress.get("again")).metadata == {"life": 2}
    history = await ps.progress.history("again")
    assert names(history) == ["created", "updated", "completed", "archived", "created"]
    assert [entry.version for entry in history] == [1, 2, 3, 4, 5]
    await complete(ps, "filler")
    await ps.progress.complete("again")
    assert (await archived(ps)).aggregates == 2
    assert len(await ps.progress.history("again")) == 7


async def test_a_command_of_the_archived_life_has_no_second_effect(ps: Penstock) -> None:
    await ps.progress.create("old", command_id="c-create")
    await ps.progress.complete("old")
    await archived(ps)
    with pytest.raises(Archived):
        await ps.progress.create("old", command_id="c-create")
    assert await in_log(ps, "old") == ["archived"]


async def test_erasing_takes_it_out_of_the_archive_also_when_others_do_the_same(
    ps: Penstock,
) -> None:
    ids = [f"old-{n}" for n in range(6)]
    await complete(ps, *ids)
    done = await archived(ps)
    assert done.segment is not None
    erase = ERASE["progress"](reason="asked for")
    await asyncio.gather(*(ps.session.command(erase, id=id) for id in ids[:5]))
    assert set(await segment(ps, done.segment)) == {"old-5"}
    with pytest.raises(Erased):
        await ps.progress.get("old-0")
    assert names(await ps.progress.history("old-0")) == ["erased"]
    assert names(await ps.progress.history("old-5"))[:3] == ["created", "updated", "completed"]


async def test_a_view_made_anew_knows_what_the_other_knows(
    ps: Penstock, system: Host, nats_url: str, prefix: str, tmp_path: Path
) -> None:
    await complete(ps, "old", "older")
    await ps.progress.create("young")
    await archived(ps)
    await ps.progress.create("old")
    [one] = system.services
    await one.projector.reach_end()
    async with running_system(nats_url, prefix, tmp_path / "anew", {"progress": build}) as anew:
        [other] = anew.services
        for table in ("aggregate", "flow", "listed"):
            assert await rows(one, table) == await rows(other, table)


async def rows(service: Service[Any], table: str) -> list[Any]:
    _, found = await service.model.read(lambda db: db.execute(f"SELECT * FROM {table}").fetchall())
    return sorted(found)


async def test_the_rules_of_the_settings_are_carried_out(
    nats_url: str, prefix: str, tmp_path: Path
) -> None:
    rules = {"retention": "progress.completed=1s", "retention_interval": 1.0}
    builders = {"progress": build}
    async with (
        running_system(nats_url, prefix, tmp_path, builders, **rules),
        Penstock(nats_url, prefix=prefix) as ps,
    ):
        await complete(ps, "old")
        await ps.progress.create("young")
        async with asyncio.timeout(60):
            while await in_log(ps, "old") != ["archived"]:
                await asyncio.sleep(0.1)
        assert await in_log(ps, "young") == ["created"]


async def test_the_log_forgets_in_time_and_a_search_of_the_archive_still_finds(
    nats_url: str, prefix: str, tmp_path: Path
) -> None:
    memory = {"archive_memory": 1 / 86_400}
    async with (
        running_system(nats_url, prefix, tmp_path, {"progress": build}, **memory),
        Penstock(nats_url, prefix=prefix) as ps,
    ):
        await complete(ps, "old")
        before = await ps.progress.history("old")
        await archived(ps)
        async with asyncio.timeout(60):
            while await in_log(ps, "old"):
                await asyncio.sleep(0.1)
        with pytest.raises(NotFound):
            await ps.progress.history("old")
        question = HistoryOf(id="old", archive=True)
        found, _ = await ps.session.ask("progress", "history", question, list[HistoryEntry])
        assert found == before
        await ps.progress.create("old")
        assert names(await ps.progress.history("old")) == ["created"]


# -- crashes ---------------------------------------------------------------------------------


@pytest.fixture
async def mortal(
    system: Host, nats_url: str, prefix: str, tmp_path: Path
) -> AsyncIterator[Service[Any]]:
    """Another instance, which may die."""
    async with await MortalBus.connect(nats_url, prefix=prefix) as bus:
        settings = Settings(prefix=prefix, durability="os")
        frame = Frame(bus=bus, settings=settings, views=tmp_path / "mortal", secret="s" * 32)
        service = build(frame)
        service.projector.start()
        yield service
        await service.projector.stop()
        await service.log.close()
        service.model.close()


def envelope(name: str) -> Envelope:
    now = datetime.now(UTC)
    return wrap(archive(), id=name, subject="archive", time=now, correlationid=name)


async def dies(service: Service[Any], command: Envelope, sends: int) -> bool:
    await service.projector.reach_end()
    with living(sends) as life:
        try:
            await service.decider.handle(command)
        except Died:
            assert life.died
    return life.died


async def test_a_crash_before_any_step_loses_nothing_and_leaves_nothing_twice(
    ps: Penstock, system: Host, mortal: Service[Any]
) -> None:
    [other] = system.services
    sends, died = 0, True
    while died:
        ids = [f"r{sends}-{n}" for n in range(2)]
        await complete(ps, *ids)
        command = envelope(f"archive-{sends}")
        died = await dies(mortal, command, sends)
        outcome = await other.decider.handle(command)
        done = msgspec.json.decode(outcome.data, type=Archiving)
        assert (done.aggregates, [await in_log(ps, id) for id in ids]) == (2, [["archived"]] * 2)
        assert done.segment is not None and set(await segment(ps, done.segment)) == set(ids)
        for id in ids:
            told = await ps.progress.history(id)
            assert names(told) == ["created", "updated", "completed", "archived"]
        sends += 1
    assert sends > 8


async def test_a_command_that_comes_again_when_its_work_was_archived_anew_drops_no_copy(
    ps: Penstock, system: Host
) -> None:
    [service] = system.services
    first = envelope("archive-first")
    for command in (first, envelope("archive-second")):
        await complete(ps, "twice")
        await service.decider.handle(command)
    outcome = await service.decider.handle(first)
    done = msgspec.json.decode(outcome.data, type=Archiving)
    assert done.segment is not None and set(await segment(ps, done.segment)) == {"twice"}
    assert len(await ps.progress.history("twice")) == 8


async def test_what_changes_between_its_copy_and_its_tombstone_stays_and_the_copy_goes(
    ps: Penstock, system: Host, mortal: Service[Any]
) -> None:
    [other] = system.services
    for sends in range(4, 14):
        ids = [f"r{sends}-{n}" for n in range(2)]
        await complete(ps, *ids)
        command = envelope(f"archive-{uuid.uuid4().hex}")
        await dies(mortal, command, sends)
        with suppress(NotFound):  # it has its tombstone already
            await ps.progress.cleanup(ids[1])
        outcome = await other.decider.handle(command)
        done = msgspec.json.decode(outcome.data, type=Archiving)
        kept = await in_log(ps, ids[1])
        assert kept in (["created", "updated", "completed", "cleaned_up"], ["archived"])
        stored = set(await segment(ps, done.segment)) if done.segment else set()
        assert (ids[1] in stored) == (kept == ["archived"])
        assert names(await ps.progress.history(ids[1]))[:3] == ["created", "updated", "completed"]
