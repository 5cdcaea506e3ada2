"""Search as an application sees it: the SDK and HTTP over a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from penstock.client import Penstock
from penstock.contracts.errors import InvalidMessage, NotFound
from penstock.contracts.search import SearchDocument, SearchQuery
from penstock.infra.host import Host
from penstock.infra.testing import running_system
from penstock.search.service import build


@pytest.fixture
async def system(nats_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[Host]:
    async with running_system(nats_url, prefix, tmp_path, {"search": build}) as host:
        yield host


@pytest.fixture
async def ps(system: Host, nats_url: str, prefix: str) -> AsyncIterator[Penstock]:
    async with Penstock(nats_url, prefix=prefix, timeout=60) as client:
        yield client


async def index(ps: Penstock, id: str, content: str, **metadata: object) -> None:
    await ps.search.index(SearchDocument(id=id, content=content, metadata=metadata))


async def found(ps: Penstock, query: str, **more: object) -> list[str]:
    hits = await ps.search.search(SearchQuery(query=query, **more))  # type: ignore[arg-type]
    return [hit.id for hit in hits.hits]


async def test_a_document_is_found_by_words_and_by_meaning(ps: Penstock) -> None:
    await index(ps, "a", "The committee met for quarterly planning.")
    await index(ps, "b", "Bread is baked from flour and water.")
    await index(ps, "c", "A loaf needs yeast and a hot oven.")
    hits = await ps.search.search(SearchQuery(query="plans of the quarter", limit=1))
    assert hits.hits[0].id == "a"
    assert "<mark>planning</mark>" in hits.hits[0].highlights[0].marked
    assert (await found(ps, "baking"))[0] == "b"
    assert set(await found(ps, "bakery", hybrid=True, limit=2)) == {"b", "c"}
    assert await found(ps, "bakery", hybrid=False) == []


async def test_one_sees_ones_own_writes_replacements_and_deletions_at_once(ps: Penstock) -> None:
    for number in range(20):
        await index(ps, "d", f"version{number}")
        assert await found(ps, f"version{number}", hybrid=False) == ["d"]
    assert await found(ps, "version0", hybrid=False) == []
    await ps.search.delete("d")
    assert await found(ps, "version19") == []
    with pytest.raises(NotFound, match="no document 'e'"):
        await ps.search.delete("e")


async def test_the_same_content_again_is_no_event(ps: Penstock) -> None:
    for _ in range(3):
        await index(ps, "s", "the same")
    assert len(await ps.search.history("s")) == 1
    await index(ps, "s", "another")
    history = await ps.search.history("s")
    assert (await ps.search.get("s", at=history[0].sequence)).content == "the same"


async def test_filters_and_thresholds_narrow_what_is_found(ps: Penstock) -> None:
    await index(ps, "x", "apples", year=2019, lang="en")
    await index(ps, "y", "apples", year=2023, lang="de")
    assert await found(ps, "apples", filters={"year": {"gte": 2020}}) == ["y"]
    assert await found(ps, "apples", filters={"lang": {"in": ["en"]}}) == ["x"]
    assert await found(ps, "", filters={"year": {"exists": True}}) == ["x", "y"]
    assert await found(ps, "zebras", threshold=0.9) == []
    with pytest.raises(InvalidMessage, match="year"):
        await found(ps, "apples", filters={"year": {"above": 1}})
    with pytest.raises(InvalidMessage, match="text to search for"):
        await found(ps, "")


async def test_the_index_is_folded_anew_when_its_file_is_gone(
    nats_url: str, prefix: str, tmp_path: Path
) -> None:
    async with Penstock(nats_url, prefix=prefix) as ps:
        async with running_system(nats_url, prefix, tmp_path / "1", {"search": build}):
            await index(ps, "a", "lighthouse")
            await index(ps, "b", "gone")
            await ps.search.delete("b")
            before = await ps.search.search(SearchQuery(query="lighthouse gone"))
        async with running_system(nats_url, prefix, tmp_path / "2", {"search": build}):
            assert await ps.search.search(SearchQuery(query="lighthouse gone")) == before


async def test_http_searches_and_refuses_what_it_does_not_understand(
    ps: Penstock, system: Host
) -> None:
    await index(ps, "a", "a lighthouse by the sea")
    async with aiohttp.ClientSession(system.http_url) as http:
        async with http.post("/search", json={"query": "lighthouse", "min_seq": 1}) as response:
            body = await response.json()
            assert [hit["id"] for hit in body["data"]["hits"]] == ["a"]
        async with http.post("/search", json={"query": "x", "limit": 0}) as response:
            problem = await response.json()
            assert (response.status, problem["fields"]["path"]) == (422, "$.limit")
        async with http.post("/search", data=b"{") as response:
            assert response.status == 422
