"""What is erased is nowhere any more: no stream, view, snapshot, index, file or dead letter."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from penstock.cli.builders import builders
from penstock.client import (
    Document,
    Erased,
    NotFound,
    Penstock,
    SearchDocument,
    SearchQuery,
    Segment,
)
from penstock.contracts.answers import Outcome
from penstock.contracts.exports import document_key
from penstock.contracts.lifecycle import ERASE
from penstock.infra.bus import Bus
from penstock.infra.deciding.snapshots import EVERY
from penstock.infra.host import Host
from penstock.infra.testing import running_system
from support.streams import everything
from support.waiting import SURELY, until_raised

SECRET = "Rumpelstilzchen"
ID = "person-7"
NAMES = {
    "progress": ID,
    "jobs": ID,
    "search": ID,
    "notifications": f"user:{ID}",
    "exports": document_key("letter", ID),
    "cache": ID,
}


@pytest.fixture
async def system(nats_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[Host]:
    async with running_system(nats_url, prefix, tmp_path, builders()) as host:
        yield host


@pytest.fixture
async def ps(system: Host, nats_url: str, prefix: str) -> AsyncIterator[Penstock]:
    async with Penstock(nats_url, prefix=prefix, timeout=60) as client:
        yield client


async def tell(ps: Penstock, id: str, secret: str) -> None:
    """Let every service know a secret of `id`."""
    await ps.progress.create(id, metadata={"name": secret})
    for number in range(EVERY + 1):
        await ps.progress.update(id, number, message=f"{secret} {number}")
    await ps.jobs.enqueue("greet", {"name": secret}, id=id)
    await ps.jobs.enqueue("later", {"name": secret}, id=f"{id}-later", delay=3600)
    await ps.search.index(SearchDocument(id=id, content=f"{secret} spins straw into gold"))
    await ps.notifications.send(id, {"text": secret})
    document = Document(title=secret, segments=(Segment(text=f"My name is {secret}"),))
    await ps.exports.put("letter", id, document)
    await ps.exports.export("letter", id, "txt", id=f"{id}-txt", async_mode=False)
    await ps.cache.invalidate([id])
    with pytest.raises(NotFound):
        await ps.progress.update(f"{id}-none", 1, message=secret)


async def erase(ps: Penstock, service: str, id: str, command_id: str | None = None) -> Outcome:
    command = ERASE[service](reason="asked for by letter")
    return await ps.session.command(command, id=id, command_id=command_id, timeout=20)


async def stored(bus: Bus) -> dict[str, list[bytes]]:
    return {name: await everything(bus, name) for name in await stream_names(bus)}


async def stream_names(bus: Bus) -> list[str]:
    found = await bus.api("STREAM.NAMES", {"subject": f"{bus.subjects.prefix}.>"})
    buckets = [f"KV_{bus.subjects.stream('cache')}", f"OBJ_{bus.subjects.stream('files')}"]
    return [*found["streams"], *buckets]


def holding(found: dict[str, list[bytes]], secret: str) -> set[str]:
    return {name for name, bodies in found.items() if any(secret.encode() in b for b in bodies)}


def files_holding(directory: Path, secret: str) -> set[str]:
    return {
        path.name
        for path in directory.rglob("*")
        if path.is_file() and secret.encode() in path.read_bytes()
    }


async def test_no_store_holds_what_was_erased_and_every_other_keeps_its_own(
    ps: Penstock, system: Host, tmp_path: Path
) -> None:
    await tell(ps, ID, SECRET)
    await tell(ps, "person-8", "Rapunzel")
    before = await stored(ps.session.bus)
    where, others = holding(before, SECRET), holding(before, "Rapunzel")
    assert {re.sub(r".*?_", "", name, count=1) for name in where} >= {
        "EV_PROGRESS", "EV_JOBS", "EV_SEARCH", "EV_NOTIFICATIONS", "WORK", "SNAP",
    }  # fmt: skip
    assert any(name.startswith("OBJ_") for name in where)
    for service, id in NAMES.items():
        await erase(ps, service, id)
    await erase(ps, "jobs", f"{ID}-later")
    # by a command of its own, which the document's erasure sent
    await until_raised(Erased, lambda: ps.exports.get(f"{ID}-txt"))
    await caught_up(system)
    async with asyncio.timeout(SURELY):
        while holding(await stored(ps.session.bus), SECRET):
            await asyncio.sleep(0.05)  # commands go a moment after they were carried out
    assert files_holding(tmp_path / "views", SECRET) == set()
    left = holding(await stored(ps.session.bus), "Rapunzel")
    assert left - passing(ps) == others - passing(ps)
    hits = await ps.search.search(SearchQuery(query=f"{SECRET} Rapunzel spins gold"))
    assert [hit.id for hit in hits.hits] == ["person-8"]
    assert (await ps.exports.get("person-8-txt")).state == "completed"


def passing(ps: Penstock) -> set[str]:
    """Where commands are until a moment after they were carried out."""
    return {ps.session.bus.subjects.stream("cmd")}


async def caught_up(system: Host) -> None:
    for service in system.services:
        await service.projector.reach_end()


async def test_an_erased_id_says_so_and_is_never_used_again(ps: Penstock) -> None:
    await ps.progress.create(ID, metadata={"name": SECRET})
    outcome = await erase(ps, "progress", ID)
    with pytest.raises(Erased, match=f"'{ID}' was erased at .*use another id"):
        await ps.progress.create(ID)
    with pytest.raises(Erased):
        await ps.progress.get(ID)
    [tombstone] = await ps.progress.history(ID)
    assert tombstone.sequence == outcome.sequence
    assert tombstone.data["reason"] == "asked for by letter"
    assert tombstone.type == "penstock.progress.erased.v1"


async def test_erasing_twice_is_erasing_once(ps: Penstock) -> None:
    await ps.progress.create(ID)
    first = await erase(ps, "progress", ID)
    assert (await erase(ps, "progress", ID)).sequence == first.sequence
    with pytest.raises(NotFound, match="nothing by the id 'nobody'"):
        await erase(ps, "progress", "nobody")


async def test_a_watch_of_what_is_erased_ends_with_the_reason(ps: Penstock) -> None:
    await ps.progress.create(ID)
    seen = asyncio.Event()

    async def watch() -> None:
        async for _ in ps.progress.watch(ID):
            seen.set()

    watching = asyncio.create_task(watch())
    await asyncio.wait_for(seen.wait(), 60)
    await erase(ps, "progress", ID)
    with pytest.raises(Erased):
        await asyncio.wait_for(watching, 60)


async def test_a_view_made_anew_after_an_erasure_is_the_same(
    ps: Penstock, system: Host, nats_url: str, prefix: str, tmp_path: Path
) -> None:
    await tell(ps, ID, SECRET)
    await tell(ps, "person-8", "Rapunzel")
    for service, id in NAMES.items():
        await erase(ps, service, id)
    await caught_up(system)
    async with running_system(nats_url, prefix, tmp_path / "anew", builders()) as anew:
        for one, other in zip(system.services, anew.services, strict=True):
            assert await rows(one) == await rows(other), one.name


async def rows(service: Any) -> dict[str, list[Any]]:
    asked = {
        "aggregate": "SELECT * FROM aggregate ORDER BY id",
        "flow": "SELECT * FROM flow ORDER BY sequence",
    }
    found = {}
    for table, select in asked.items():
        _, found[table] = await service.model.read(lambda db, s=select: db.execute(s).fetchall())
    return found
