"""The file of an export over HTTP, and what goes with it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import aiohttp
import msgspec
import pytest

from penstock.client import Penstock
from penstock.contracts.exports import Document, Segment
from penstock.infra.host import Host

HOSTILE = Document(
    title='../"Über"\r\nSet-Cookie: a=b/日本.txt',
    segments=tuple(Segment(text=f"{n} " + "x" * 90) for n in range(30_000)),
)


@pytest.fixture
async def http(system: Host) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(system.http_url) as session:
        yield session


@pytest.fixture
async def content(ps: Penstock) -> bytes:
    """What is at /exports/e/file: some 3 MB."""
    await ps.exports.put("talk", "t", HOSTILE)
    await ps.exports.export("talk", "t", "txt", id="e", async_mode=False)
    return await ps.exports.read("e")


async def test_a_file_comes_whole_typed_and_with_a_harmless_name(
    http: aiohttp.ClientSession, content: bytes
) -> None:
    async with http.get("/exports/e/file") as response:
        assert (response.status, await response.read()) == (200, content)
        headers = response.headers
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert headers["Content-Length"] == str(len(content))
    assert headers["ETag"] == f'"{hashlib.sha256(content).hexdigest()}"'
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["Content-Disposition"] == (
        'attachment; filename="__Uber_ Set-Cookie_ a=b_.txt.txt"; '
        "filename*=UTF-8''__%C3%9Cber_%20Set-Cookie_%20a%3Db_%E6%97%A5%E6%9C%AC.txt.txt"
    )
    assert "Set-Cookie" not in headers


async def test_the_head_alone_says_the_same(http: aiohttp.ClientSession, content: bytes) -> None:
    async with http.head("/exports/e/file") as response:
        assert (response.status, await response.read()) == (200, b"")
        assert response.headers["Content-Length"] == str(len(content))


async def test_a_broken_download_is_resumed_by_range(
    http: aiohttp.ClientSession, content: bytes
) -> None:
    async with http.get("/exports/e/file") as response:
        first = await response.content.readexactly(100_000)
        etag = response.headers["ETag"]
    resume = {"Range": "bytes=100000-", "If-Range": etag}
    async with http.get("/exports/e/file", headers=resume) as response:
        assert response.status == 206
        size = len(content)
        assert response.headers["Content-Range"] == f"bytes 100000-{size - 1}/{size}"
        assert first + await response.read() == content
    changed = {"Range": "bytes=100000-", "If-Range": '"another"'}
    async with http.get("/exports/e/file", headers=changed) as response:
        assert (response.status, await response.read()) == (200, content)


async def test_a_range_outside_the_file_is_not_satisfiable(
    http: aiohttp.ClientSession, content: bytes
) -> None:
    async with http.get("/exports/e/file", headers={"Range": "bytes=99999999-"}) as response:
        assert response.status == 416
        assert response.headers["Content-Range"] == f"bytes */{len(content)}"


async def test_a_file_that_the_asker_has_is_not_sent_again(
    http: aiohttp.ClientSession, content: bytes
) -> None:
    etag = f'"{hashlib.sha256(content).hexdigest()}"'
    async with http.get("/exports/e/file", headers={"If-None-Match": etag}) as response:
        assert (response.status, await response.read()) == (304, b"")
        assert response.headers["ETag"] == etag


async def test_a_file_that_turns_out_broken_ends_the_connection(
    http: aiohttp.ClientSession, ps: Penstock, content: bytes
) -> None:
    bus = ps.session.bus
    files = bus.subjects.stream("files")
    [last] = await bus.direct_get(f"OBJ_{files}", {"last_by_subj": f"$O.{files}.C.>"})
    await bus.api(f"STREAM.MSG.DELETE.OBJ_{files}", {"seq": last.sequence})
    with pytest.raises(aiohttp.ClientPayloadError):
        async with http.get("/exports/e/file") as response:
            await response.read()


async def test_no_file_is_said_with_its_reason(http: aiohttp.ClientSession, ps: Penstock) -> None:
    async with http.get("/exports/none/file") as response:
        assert (response.status, (await response.json())["detail"]) == (
            404,
            "There is no export 'none'.",
        )
    await ps.exports.put("talk", "t", Document(title="", segments=(Segment(text="a"),)))
    async with http.get("/exports/document%3Atalk%2Ft/file") as response:
        assert response.status == 404
    await ps.exports.export("talk", "t", "srt", id="f")
    _ = [state async for state in ps.exports.watch("f")]
    async with http.get("/exports/f/file") as response:
        assert response.status == 424
        assert "$.segments[0].start" in (await response.json())["detail"]


async def test_everything_but_large_documents_goes_over_http(http: aiohttp.ClientSession) -> None:
    document = msgspec.to_builtins(Document(title="T", segments=(Segment(text="a"),)))
    put = {"id": "document:talk/t", "data": {"document": document}}
    async with http.post("/commands/exports/put?wait=10", json=put) as response:
        assert (await response.json())["data"]["version"] == 1
    request = {"id": "h", "data": {"kind": "talk", "document": "t", "format": "txt"}}
    async with http.post("/commands/exports/request?wait=10", json=request) as response:
        assert (await response.json())["data"]["state"] == "pending"
    revision, state = 0, {"state": ""}
    while state["state"] != "completed":
        async with http.get(f"/exports/h?after={revision}&wait=10") as response:
            body = await response.json()
            revision, state = body["revision"], body["data"]
    async with http.get("/exports/h/file") as response:
        assert await response.text() == "T\n\na\n"
    for path, names in (("/exports?state=completed", ["h"]), ("/exports/documents", ["t"])):
        async with http.get(path) as response:
            assert [one["id"] for one in (await response.json())["data"]] == names
    async with http.get("/exports/formats") as response:
        assert "srt" in [one["name"] for one in (await response.json())["data"]]
    async with http.get("/openapi.json") as response:
        assert "/exports/{id}" in (await response.json())["paths"]
