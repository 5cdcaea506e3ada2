"""The object store, with nats-py as the other client that it must get along with."""

from __future__ import annotations

import hashlib
import io
from collections.abc import AsyncIterator

import msgspec
import pytest
from nats.js.object_store import ObjectStore

from penstock.contracts.errors import InvalidMessage, NotFound, Unavailable
from penstock.infra import objects as module
from penstock.infra.bus import Bus, StreamError
from penstock.infra.objects import Damaged, Objects
from penstock.infra.streams import provision

LARGE = bytes(range(256)) * 12_345  # 3 MB, and no multiple of a chunk


@pytest.fixture
async def bus(nats_url: str, prefix: str) -> AsyncIterator[Bus]:
    async with await Bus.connect(nats_url, prefix=prefix) as bus:
        await provision(bus)
        yield bus


@pytest.fixture
def objects(bus: Bus) -> Objects:
    return Objects(bus)


@pytest.fixture
def other(bus: Bus) -> ObjectStore:
    bucket = bus.subjects.stream("files")
    return ObjectStore(bucket, f"OBJ_{bucket}", bus.js)


def stream(bus: Bus) -> str:
    return f"OBJ_{bus.subjects.stream('files')}"


async def last_chunk(bus: Bus) -> tuple[int, str]:
    chunks = f"$O.{bus.subjects.stream('files')}.C.>"
    [last] = await bus.direct_get(stream(bus), {"last_by_subj": chunks})
    return last.sequence, last.subject


@pytest.mark.parametrize("content", [b"", b"a", LARGE], ids=["empty", "one byte", "large"])
async def test_what_is_put_is_got(objects: Objects, content: bytes) -> None:
    stored = await objects.put("a/ü 1", content)
    assert (stored.size, stored.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert await objects.info("a/ü 1") == stored
    assert await objects.get("a/ü 1") == content


async def test_a_file_is_put_from_where_it_stands(objects: Objects) -> None:
    source = io.BytesIO(LARGE)
    source.seek(7)
    await objects.put("f", source)
    assert await objects.get("f") == LARGE[7:]


async def test_other_clients_read_ours_and_we_read_theirs(
    objects: Objects, other: ObjectStore
) -> None:
    await objects.put("ours", LARGE)
    assert (await other.get("ours")).data == LARGE
    await other.put("theirs", LARGE)
    assert await objects.get("theirs") == LARGE


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, 1), (131_071, 131_073), (1_000_000, 3_000_000), (len(LARGE) - 1, None), (5, 10**9)],
)
async def test_a_part_is_read_alone(objects: Objects, start: int, stop: int | None) -> None:
    stored = await objects.put("p", LARGE)
    part = b"".join([piece async for piece in objects.read(stored, start=start, stop=stop)])
    assert part == LARGE[start:stop]


async def test_putting_again_replaces_and_frees_what_was_there(objects: Objects, bus: Bus) -> None:
    await objects.put("r", LARGE)
    before = await bus.api(f"STREAM.INFO.{stream(bus)}")
    await objects.put("r", b"new")
    after = await bus.api(f"STREAM.INFO.{stream(bus)}")
    assert await objects.get("r") == b"new"
    assert after["state"]["bytes"] < before["state"]["bytes"] / 100


async def test_putting_once_stores_the_same_content_once(objects: Objects) -> None:
    first = await objects.put_once("o", b"same")
    assert await objects.put_once("o", b"same") == first
    changed = await objects.put_once("o", b"other")
    assert changed.nuid != first.nuid
    assert await objects.get("o") == b"other"


async def test_nothing_by_that_name_is_not_found(objects: Objects, other: ObjectStore) -> None:
    with pytest.raises(NotFound, match="no 'none'"):
        await objects.info("none")
    await objects.put("d", b"x")
    await other.delete("d")
    with pytest.raises(NotFound, match="'d' was deleted"):
        await objects.get("d")


async def test_a_missing_chunk_is_noticed(
    objects: Objects, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    stored = await objects.put("m", LARGE)
    sequence, _ = await last_chunk(bus)
    await bus.api(f"STREAM.MSG.DELETE.{stream(bus)}", {"seq": sequence})
    with pytest.raises(Unavailable, match="are gone"):
        await objects.get("m")
    read = b"".join([piece async for piece in objects.read(stored, stop=1000)])
    assert read == LARGE[:1000]


async def test_a_wrong_digest_is_noticed_before_the_last_piece(objects: Objects, bus: Bus) -> None:
    stored = await objects.put("w", LARGE)
    wrong = msgspec.structs.replace(stored, sha256="0" * 64)
    got = 0
    with pytest.raises(Damaged, match="another SHA-256"):
        async for piece in objects.read(wrong):
            got += len(piece)
    assert got < len(LARGE)


async def test_a_chunk_too_many_is_noticed(objects: Objects, bus: Bus) -> None:
    await objects.put("t", b"abc")
    _, subject = await last_chunk(bus)
    stored = msgspec.structs.replace(await objects.info("t"), size=2)
    with pytest.raises(Damaged, match="more than its 2 bytes"):
        [piece async for piece in objects.read(stored)]
    assert subject.endswith(stored.nuid)


async def test_a_link_is_not_followed(objects: Objects, bus: Bus) -> None:
    bucket = bus.subjects.stream("files")
    link = {"name": "l", "bucket": bucket, "nuid": "n", "options": {"link": {"bucket": bucket}}}
    await bus.publish_acked(f"$O.{bucket}.M.bA==", msgspec.json.encode(link))
    with pytest.raises(InvalidMessage, match="links are not followed"):
        await objects.info("l")


async def test_a_store_that_is_not_there_is_said_so(bus: Bus) -> None:
    objects = Objects(bus, bucket="NONE")
    with pytest.raises(StreamError, match="stream not found"):
        await objects.info("x")
    with pytest.raises(StreamError, match="stream not found"):
        await objects.put("x", b"x")
