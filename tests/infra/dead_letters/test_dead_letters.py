"""What cannot be handled is kept with its reason, and holds nothing else back."""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from msgspec.structs import replace

from penstock.client import Penstock
from penstock.contracts.dead import DeadLetter, Found, Letters, body_of
from penstock.contracts.envelope import encode, wrap
from penstock.contracts.errors import InvalidMessage, NotFound, Problem
from penstock.contracts.lifecycle import ERASE
from penstock.contracts.progress import CompleteProgress, CreateProgress, UpdateProgress
from penstock.contracts.subjects import REPLY
from penstock.infra.bus import Bus
from penstock.infra.dead_letters import count as letter_count
from penstock.infra.dead_letters.burying import bury, store
from penstock.infra.dead_letters.count import letters as count
from penstock.infra.dead_letters.office import DeadLetterOffice
from penstock.infra.dead_letters.redriving import Redriving
from penstock.infra.host import Host
from penstock.infra.streams import provision
from penstock.infra.testing import running_system
from penstock.progress.service import build
from support.streams import commands_waiting


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
    async with asyncio.timeout(60):
        while True:
            request = {"last_by_subj": bus.subjects.dead("progress")}
            if found := await bus.direct_get(bus.subjects.stream("dead"), request):
                return msgspec.json.decode(found[0].data, type=DeadLetter)
            await asyncio.sleep(0.01)


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
        await ps.session.post(CompleteProgress(), id="nobody")
        letter = await dead_letter(bus)
        assert (letter.kind, letter.id, letter.deliveries) == ("command", "nobody", 1)
        assert letter.type == "penstock.progress.complete.v1"
        assert letter.message and letter.sequence
        assert letter.reason.title == "Not found"
        assert "nobody" in letter.reason.detail
        await ps.session.post(CreateProgress(), id="somebody", command_id="c1")
        again = await ps.session.command(CreateProgress(), id="somebody", command_id="c1")
        [created] = await ps.progress.history("somebody")
        assert again.sequence == created.sequence
        async with asyncio.timeout(60):
            while await commands_waiting(bus):
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
    async with asyncio.timeout(60):
        while await commands_waiting(bus):
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


# -- burying -----------------------------------------------------------------------------------


EVERY = Letters()
BODY = b'{"a": "command that is not one"}'


@pytest.fixture
async def streams(nats_url: str, prefix: str) -> AsyncIterator[Bus]:
    """The streams without any service."""
    async with await Bus.connect(nats_url, prefix=prefix) as connected:
        await provision(connected)
        yield connected


async def bury_one(bus: Bus, body: bytes = BODY, *, sequence: int = 7, **changed: Any) -> None:
    given: dict[str, Any] = {"kind": "command", "error": InvalidMessage("No."), **changed}
    subject = bus.subjects.command("progress", "create")
    await bury(bus, "progress", subject=subject, body=body, sequence=sequence, **given)


async def letters(bus: Bus, which: Letters = EVERY) -> list[Found]:
    return [found async for found in DeadLetterOffice(bus).newest_first(which)]


async def test_a_message_that_is_buried_again_has_one_letter(streams: Bus) -> None:
    for error in (InvalidMessage("No."), InvalidMessage("Still no."), ZeroDivisionError()):
        await bury_one(streams, error=error)
    [found] = await letters(streams)
    assert found.letter.reason.detail == "No."
    await bury_one(streams, sequence=8)
    assert len(await letters(streams)) == 2


async def test_another_message_at_the_same_place_has_its_own_letter(streams: Bus) -> None:
    await bury_one(streams)
    await bury_one(streams, b"as after the stream was made anew")
    assert len(await letters(streams)) == 2


def incompressible(size: int) -> bytes:
    """Text of so many bytes that is random."""
    return base64.b64encode(random.Random(size).randbytes(size))[:size]


@pytest.mark.parametrize(
    "body",
    [b"", b"\x00\xff", b'"' * 5_000_000, incompressible(8 * 1024 * 1024 - 4096)],
    ids=["empty", "binary", "twice as long in a letter", "as large as can be"],
)
async def test_a_body_of_any_size_and_kind_is_kept(streams: Bus, body: bytes) -> None:
    await bury_one(streams, body)
    [found] = await letters(streams)
    assert body_of(found.letter) == body


async def test_what_cannot_be_kept_whole_says_how_much_is_missing(streams: Bus) -> None:
    body = random.Random(1).randbytes(8 * 1024 * 1024 - 4096)
    await bury_one(streams, body)
    [found] = await letters(streams)
    assert body_of(found.letter) is None
    kept = base64.b64decode(found.letter.body_base64 or "")
    assert len(kept) + found.letter.cut == len(body) and body.startswith(kept)


async def test_nothing_is_kept_of_what_was_said_about_somebody_erased(streams: Bus) -> None:
    reason = Problem(type="urn:penstock:error:erased", title="Erased", status=410, detail="Gone.")
    letter = replace(letter_of(), reason=reason, headers={"who": "ada"}, trace="ada")
    await store(streams, letter, command("ada"))
    [found] = await letters(streams)
    assert found.letter.id == "ada"
    kept = found.letter
    assert (kept.headers, kept.trace, body_of(kept)) == ({}, None, None)
    [settled] = await Redriving(streams).redrive([found])
    assert settled.left and "was not kept" in settled.left


async def test_a_letter_of_an_older_version_and_what_is_no_letter_are_listed(streams: Bus) -> None:
    older = {
        "service": "progress",
        "subject": streams.subjects.event("progress", "a"),
        "reason": {"type": "t", "title": "T", "status": 422, "detail": "Because."},
        "time": "2026-01-01T00:00:00Z",
        "body": command("a").decode(),
    }
    prefix = streams.subjects.prefix
    await streams.publish_acked(f"{prefix}.dead.progress", msgspec.json.encode(older))
    await streams.publish_acked(f"{prefix}.dead.jobs.x", b"rubbish")
    newest, oldest = await letters(streams)
    assert (oldest.letter.reason.detail, oldest.letter.kind) == ("Because.", "unknown")
    assert (newest.letter.service, body_of(newest.letter)) == ("jobs", b"rubbish")
    left = [s.left for s in await Redriving(streams).redrive([oldest, newest])]
    assert "older version" in str(left[0]) and "discard it" in str(left[1])


# -- listing -----------------------------------------------------------------------------------


async def test_the_newest_come_first_however_many_are_gone_between(streams: Bus) -> None:
    await asyncio.gather(*(bury_one(streams, sequence=n) for n in range(1, 901)))
    all = [found.number for found in await letters(streams)]
    assert all == list(range(900, 0, -1))
    gone = set(range(20, 400)) | set(range(500, 890)) - {777}
    office, redriving = DeadLetterOffice(streams), Redriving(streams)
    await redriving.discard([await office.show(number) for number in gone])
    left = [number for number in all if number not in gone]
    assert [found.number for found in await letters(streams)] == left
    page = [found.number async for found in office.newest_first(Letters(), before=450)]
    assert page == [number for number in left if number < 450]


async def test_letters_are_found_by_service_kind_reason_and_aggregate(streams: Bus) -> None:
    await bury_one(streams, command("a"))
    await bury_one(streams, command("b"), sequence=8, error=NotFound("No b."))
    await bury(streams, "cache", kind="change", subject="x", body=b"{}", error=NotFound("No."))

    async def numbers(**which: Any) -> list[int]:
        return [found.number for found in await letters(streams, Letters(**which))]

    assert await numbers() == [3, 2, 1]
    assert await numbers(service="progress") == [2, 1]
    assert await numbers(kind="change") == [3]
    assert await numbers(reason="not-found") == [3, 2]
    assert await numbers(reason="urn:penstock:error:invalid-message") == [1]
    assert await numbers(aggregate="b", service="progress") == [2]
    assert await numbers(aggregate="b", service="cache") == []
    assert await count(streams) == 3
    assert await count(streams, "progress") == 2


# -- redriving ---------------------------------------------------------------------------------


def command(id: str, command_id: str = "c") -> bytes:
    """A command that completes the progress `id`."""
    time = datetime(2026, 1, 1, tzinfo=UTC)
    done = CompleteProgress()
    return encode(wrap(done, id=command_id, subject=id, time=time, correlationid="f"))


async def test_a_message_goes_back_as_it_was_without_what_belonged_to_its_delivery(
    streams: Bus,
) -> None:
    subjects = streams.subjects
    where = {
        "command": (subjects.command("progress", "complete"), "cmd"),
        "change": (subjects.change("user", "1"), "changes"),
        "timer": (subjects.due("jobs", "j"), "sched"),
    }
    headers = {"Nats-Msg-Id": "old", "Nats-Time-Stamp": "t", REPLY: "r", "traceparent": "kept"}
    for kind, (subject, _) in where.items():
        await bury_one_of(streams, kind, subject, headers)
    settled = [s async for page in Redriving(streams).redrive_all(Letters()) for s in page]
    assert [s.left for s in settled] == [None] * 3
    assert await letters(streams) == []
    for subject, stream in where.values():
        [stored] = await streams.direct_get(subjects.stream(stream), {"last_by_subj": subject})
        assert stored.data == command("a")
        assert stored.headers["traceparent"] == "kept"
        assert REPLY not in stored.headers and stored.headers["Nats-Msg-Id"] != "old"
        assert stored.headers["Nats-Time-Stamp"] != "t"


async def bury_one_of(bus: Bus, kind: Any, subject: str, headers: dict[str, str]) -> None:
    no = InvalidMessage("No.")
    await bury(
        bus, "x", kind=kind, subject=subject, body=command("a"), error=no, sequence=1,
        headers=headers,
    )  # fmt: skip


async def test_a_command_is_carried_out_once_the_cause_is_gone_however_often_it_is_redriven(
    bus: Bus, nats_url: str
) -> None:
    subject = bus.subjects.command("progress", "complete")
    await bus.publish_acked(subject, command("late"))
    await dead_letter(bus)
    [found] = await letters(bus)
    redriving = Redriving(bus)
    async with Penstock(nats_url, prefix=bus.subjects.prefix) as ps:
        await ps.progress.create("late")
        await redriving.redrive([found])
        await redriving.redrive([found])  # as after a crash before the letter was removed
        async with asyncio.timeout(60):
            while (await ps.progress.get("late")).state != "completed":
                await asyncio.sleep(0.02)
            while await commands_waiting(bus):
                await asyncio.sleep(0.02)
        history = await ps.session.history("progress", "late")
    assert [entry.type.split(".")[2] for entry in history] == ["created", "completed"]
    assert await letters(bus) == []


async def test_what_fails_again_is_a_new_letter_and_not_redriven_over_and_over(bus: Bus) -> None:
    subject = bus.subjects.command("progress", "complete")
    for n in range(3):
        await bus.publish_acked(subject, command("nobody", f"c{n}"))
    await wait_for_letters(bus, 3)
    pages = [page async for page in Redriving(bus).redrive_all(Letters(), limit=2)]
    assert [[s.number for s in page] for page in pages] == [[1, 2]]
    await wait_for_letters(bus, 3)
    assert sorted(found.number for found in await letters(bus)) == [3, 4, 5]


async def wait_for_letters(bus: Bus, wanted: int) -> None:
    async with asyncio.timeout(60):
        while await count(bus) != wanted or await commands_waiting(bus):
            await asyncio.sleep(0.02)


async def test_what_is_erased_has_no_letter_left(system: Host, nats_url: str, prefix: str) -> None:
    async with Penstock(nats_url, prefix=prefix) as ps:
        for id in ("ada", "bob"):
            await ps.progress.create(id)
            await ps.session.post(UpdateProgress(percent=1, stage="secret"), id=id)
        await wait_for_letters(ps.session.bus, 2)
        await ps.session.command(ERASE["progress"](reason="asked"), id="ada")
        assert [found.letter.id for found in await letters(ps.session.bus)] == ["bob"]


async def test_what_nobody_can_read_stays_until_it_is_discarded(streams: Bus) -> None:
    await bury_one(streams, b"not json")
    redriving = Redriving(streams)
    [[settled]] = [page async for page in redriving.redrive_all(Letters())]
    assert settled.left and settled.left.endswith("discard it.")
    assert len(await letters(streams)) == 1
    [[settled]] = [page async for page in redriving.discard_all(Letters())]
    assert (settled.left, await letters(streams)) == (None, [])
    assert await redriving.discard([Found(number=1, letter=letter_of())])  # gone already


def letter_of() -> DeadLetter:
    reason = NotFound("No.").problem()
    time = datetime(2026, 1, 1, tzinfo=UTC)
    return DeadLetter(service="progress", subject="x", reason=reason, time=time)


async def test_a_metric_tells_how_many_letters_there_are_now(
    nats_url: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letter_count, "EVERY", 0.05)
    async with (
        await Bus.connect(nats_url, prefix=prefix) as bus,
        running_system(nats_url, prefix, tmp_path, {"progress": build}) as host,
        aiohttp.ClientSession(host.http_url) as http,
        asyncio.timeout(60),
    ):
        for line in ("2.0", "0.0"):
            if line == "2.0":
                await bury_one(bus)
                await bury_one(bus, sequence=8)
            else:
                [_ async for _ in Redriving(bus).discard_all(Letters(), overwrite=True)]
            text = ""
            while f'penstock_dead_letters_kept{{service="progress"}} {line}' not in text:
                async with http.get("/metrics") as response:
                    text = await response.text()


async def test_over_http_letters_are_listed_shown_redriven_and_discarded(
    system: Host, nats_url: str, prefix: str
) -> None:
    async with (
        Penstock(nats_url, prefix=prefix) as ps,
        aiohttp.ClientSession(system.http_url) as http,
    ):
        bus = ps.session.bus
        for id in ("late", "never"):
            await ps.session.post(CompleteProgress(), id=id)
        await wait_for_letters(bus, 2)
        async with http.get("/dead", params={"aggregate": "late", "limit": 5}) as response:
            [listed] = (await response.json())["data"]
            number = listed["number"]
        async with http.get(f"/dead/{number}") as response:
            shown = (await response.json())["data"]
            assert (shown["number"], shown["letter"]["id"]) == (number, "late")
        await ps.progress.create("late")
        async with http.post(f"/dead/{number}/redrive") as response:
            assert response.status == 200, await response.text()
        async with http.post(f"/dead/{number}/redrive") as response:
            assert response.status == 404
        async with http.delete(f"/dead/{3 - number}") as response:
            assert response.status == 200
        async with http.get("/dead") as response:
            assert (await response.json())["data"] == []
        async with http.get("/metrics") as response:
            metrics = await response.text()
            assert 'dead_letters_redriven_total{kind="command",service="progress"}' in metrics
            assert 'dead_letters_discarded_total{kind="command",service="progress"}' in metrics
        async with http.get("/openapi.json") as response:
            paths = (await response.json())["paths"]
        for path in ("/dead/{number}", "/dead/{number}/redrive"):
            for operation in paths[path].values():
                assert [p["name"] for p in operation["parameters"]] == ["number"]
