"""Search goes on over a rebuild of its view, whose searchers hold vectors by connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import msgspec
import pytest

from penstock.client import Penstock
from penstock.contracts.search import SearchDocument, SearchQuery
from penstock.contracts.views import Rebuild, Verified, Verify
from penstock.infra.control import ask_all
from penstock.infra.host import Host
from penstock.infra.testing import running_system
from penstock.infra.views.read_model import READERS
from penstock.search.service import build
from penstock.search.views import SearchView

TEXTS = {
    "ship": "The harbour was full of ships and sailors.",
    "bread": "A baker kneads dough for bread before sunrise.",
    "court": "The judge asked the lawyers to approach the bench.",
}


@pytest.fixture
async def system(nats_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[Host]:
    async with running_system(nats_url, prefix, tmp_path, {"search": build}) as host:
        yield host


@pytest.fixture
async def ps(system: Host, nats_url: str, prefix: str) -> AsyncIterator[Penstock]:
    async with Penstock(nats_url, prefix=prefix, timeout=60) as client:
        for id, text in TEXTS.items():
            document = SearchDocument(id=id, content=text, metadata={"words": len(text.split())})
            await client.search.index(document)
        yield client


async def found(ps: Penstock, query: str) -> list[tuple[str, float]]:
    hits = await ps.search.search(SearchQuery(query=query, hybrid=True))
    return [(hit.id, hit.relevance) for hit in hits.hits]


async def rebuild(ps: Penstock) -> None:
    reports = [r async for r in ask_all(ps.session.bus, "search", "rebuild", Rebuild())]
    assert reports[-1].problem is None


async def verified(ps: Penstock) -> Verified:
    reports = [r async for r in ask_all(ps.session.bus, "search", "verify", Verify())]
    return msgspec.json.decode(reports[-1].data, type=Verified)


async def test_the_same_is_found_afterwards_and_what_is_indexed_then_too(ps: Penstock) -> None:
    before = await asyncio.gather(*(found(ps, "loaf of bread") for _ in range(2 * READERS)))
    await rebuild(ps)
    after = await asyncio.gather(*(found(ps, "loaf of bread") for _ in range(2 * READERS)))
    assert after == before
    assert before[0][0][0] == "bread"
    await ps.search.index(SearchDocument(id="new", content="Loaves of bread for everyone."))
    await ps.search.delete("bread")
    assert (await found(ps, "loaf of bread"))[0][0] == "new"
    assert "bread" not in dict(await found(ps, "loaf of bread"))


async def test_searching_goes_on_meanwhile(ps: Penstock) -> None:
    rebuilding = asyncio.create_task(rebuild(ps))
    while not rebuilding.done():
        assert (await found(ps, "sailors on a ship"))[0][0] == "ship"
    await rebuilding


async def test_no_vectors_stay_in_memory_for_views_that_are_gone(
    ps: Penstock, system: Host
) -> None:
    view = system.services[0].model._view
    assert isinstance(view, SearchView)
    for _ in range(3):
        await asyncio.gather(*(found(ps, "bread") for _ in range(2 * READERS)))
        await rebuild(ps)
        await found(ps, "bread")
    assert len(view._indexes) <= 1
    assert len(view._searchers) <= READERS


@pytest.mark.parametrize(
    ("change", "table", "key"),
    [
        ("UPDATE indexed_document SET content = 'x' WHERE id = 'ship'", "indexed_document", "ship"),
        ("DELETE FROM indexed_text WHERE rowid = 1", "indexed_text", "full"),
        ("UPDATE indexed_passages SET vectors = zeroblob(1024)", "indexed_passages", "bread"),
        ("DELETE FROM indexed_field", "indexed_field", "bread, words, number, 8, 0"),
    ],
)
async def test_every_part_of_the_index_is_verified(
    ps: Penstock, system: Host, tmp_path: Path, change: str, table: str, key: str
) -> None:
    await system.services[0].projector.reach_end()  # what is folded later would be right again
    assert (await verified(ps)).count == 0
    [path] = (tmp_path / "views").glob("search.*.sqlite")
    db = apsw.Connection(str(path))
    db.execute(change)
    db.close()
    differences = (await verified(ps)).differences
    assert (table, key) in [(one.table, one.key) for one in differences]
    assert {one.table for one in differences} == {table}
