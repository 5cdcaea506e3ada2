"""Exports as an application sees them: the SDK over a real server."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
from pathlib import Path

import msgspec
import pytest
import srt
from nats.js.object_store import ObjectStore

from penstock.client import Penstock
from penstock.contracts.errors import (
    ExportFailed,
    InvalidMessage,
    NotFound,
    PenstockError,
    Refused,
    TooLarge,
)
from penstock.contracts.exports import (
    Content,
    Document,
    PutStoredDocument,
    Segment,
    document_key,
)
from penstock.infra.objects import Damaged

TALK = Document(
    title="A talk",
    segments=(
        Segment(text="Good morning.", start=0.0, end=1.5, speaker="Ann"),
        Segment(text='She said "=1+1".', start=1.5, end=3.0),
    ),
    metadata={"language": "en"},
)


@pytest.fixture
def stored(ps: Penstock) -> ObjectStore:
    """The object store by another client, which is not ours."""
    bucket = ps.session.bus.subjects.stream("files")
    return ObjectStore(bucket, f"OBJ_{bucket}", ps.session.bus.js)


async def exported(ps: Penstock, format: str, document: Document = TALK) -> bytes:
    await ps.exports.put("talk", "t", document)
    state = await ps.exports.export("talk", "t", format, async_mode=False, timeout=60)
    return await ps.exports.read(state.id)


async def test_a_document_becomes_plain_text(ps: Penstock) -> None:
    assert (await exported(ps, "txt")).decode() == (
        'A talk\n\nAnn: Good morning.\nShe said "=1+1".\n'
    )


async def test_a_document_becomes_json_that_reads_back_as_the_same(ps: Penstock) -> None:
    assert msgspec.json.decode(await exported(ps, "json"), type=Document) == TALK


async def test_a_document_becomes_subtitles(ps: Penstock) -> None:
    first, second = srt.parse((await exported(ps, "srt")).decode())
    assert (first.start.total_seconds(), first.end.total_seconds()) == (0.0, 1.5)
    assert second.content == 'She said "=1+1".'


async def test_a_document_becomes_rows(ps: Penstock) -> None:
    rows = list(csv.DictReader(io.StringIO((await exported(ps, "csv")).decode(), newline="")))
    assert [row["text"] for row in rows] == ["Good morning.", 'She said "=1+1".']


async def test_a_completed_export_tells_all_about_its_file_and_its_source(ps: Penstock) -> None:
    document = await ps.exports.put("talk", "t", TALK)
    state = await ps.exports.export("talk", "t", "txt", async_mode=False)
    content = await ps.exports.read(state.id)
    assert state.file is not None
    assert (state.file.size, state.file.segments) == (len(content), 2)
    assert state.file.sha256 == hashlib.sha256(content).hexdigest()
    assert state.file.media_type == "text/plain; charset=utf-8"
    assert state.file.filename == "A talk.txt"
    assert (state.version, state.as_of) == (1, document.updated)
    assert (state.state, state.attempts, state.error) == ("completed", 1, None)


async def test_an_export_is_of_the_version_that_was_there_when_it_was_asked_for(
    ps: Penstock,
) -> None:
    await ps.exports.put("talk", "t", TALK)
    first = await ps.exports.export("talk", "t", "txt")
    await ps.exports.put("talk", "t", Document(title="Later", segments=TALK.segments))
    second = await ps.exports.export("talk", "t", "txt", async_mode=False)
    assert second.version == 2
    assert (await ps.exports.read(second.id)).startswith(b"Later")
    async with asyncio.timeout(60):
        states = [state async for state in ps.exports.watch(first.id)]
    assert states[-1].version == 1
    assert (await ps.exports.read(first.id)).startswith(b"A talk")


async def test_putting_the_same_content_again_is_no_new_version(ps: Penstock) -> None:
    await ps.exports.put("talk", "t", TALK)
    again = await ps.exports.put("talk", "t", TALK)
    assert again.version == 1
    assert len(await ps.exports.history(document_key("talk", "t"))) == 1


async def test_a_large_document_goes_by_way_of_the_object_store(ps: Penstock) -> None:
    segments = tuple(Segment(text=f"{n} " + "x" * 90, start=n, end=n + 1) for n in range(20_000))
    large = Document(title="Long", segments=segments)
    content = await exported(ps, "json", large)
    assert len(content) > 2_000_000
    assert msgspec.json.decode(content, type=Document) == large
    [put] = await ps.exports.history(document_key("talk", "t"))
    assert put.causationtype == "penstock.exports.put_stored.v1"
    assert len(msgspec.json.encode(put)) < 2_000


async def test_a_document_above_the_limit_is_refused_before_it_is_sent(ps: Penstock) -> None:
    with pytest.raises(TooLarge, match="67108864 is the most"):
        await ps.exports.put("talk", "t", Document(title="x" * 2**26, segments=()))


async def test_a_stored_document_must_be_in_the_object_store(ps: Penstock) -> None:
    missing = PutStoredDocument(content=Content(size=1, sha256="0" * 64))
    with pytest.raises(NotFound, match="store the document there first"):
        await ps.session.command(missing, id=document_key("talk", "t"))


async def test_an_export_goes_from_pending_to_completed_and_a_watch_ends_there(
    ps: Penstock,
) -> None:
    await ps.exports.put("talk", "t", TALK)
    with ps.correlated("flow-7"):
        state = await ps.exports.export("talk", "t", "srt")
    assert (state.state, state.file) == ("pending", None)
    async with asyncio.timeout(60):
        seen = [state.state async for state in ps.exports.watch(state.id)]
    assert seen[-1] == "completed"
    history = await ps.exports.history(state.id)
    assert [entry.type.split(".")[2] for entry in history] == ["requested", "started", "completed"]
    assert [entry.version for entry in history] == [1, 2, 3]
    assert {entry.causationid for entry in history[1:]} == {history[0].id}
    assert {(entry.actor, entry.correlationid) for entry in history} == {("tester", "flow-7")}
    then = await ps.exports.get(state.id, at=history[1].sequence)
    assert then.state == "processing"


async def test_asking_twice_with_one_id_is_one_export(ps: Penstock) -> None:
    await ps.exports.put("talk", "t", TALK)
    first = await ps.exports.export("talk", "t", "txt", id="mine", async_mode=False)
    again = await ps.exports.export("talk", "t", "txt", id="mine", async_mode=False)
    assert again == first
    command = [
        await ps.exports.export("talk", "t", "txt", command_id="c-1", async_mode=False)
        for _ in range(2)
    ]
    assert command[0] == command[1]
    assert [state.id for state in await ps.exports.list()] == ["c-1", "mine"]
    assert len(await ps.exports.history("mine")) == 3
    with pytest.raises(Refused, match="use another id"):
        await ps.exports.export("talk", "t", "srt", id="mine")


async def test_what_cannot_be_exported_is_refused_with_what_to_do(ps: Penstock) -> None:
    with pytest.raises(NotFound, match="no talk 'nope' to export; put it first"):
        await ps.exports.export("talk", "nope", "txt")
    await ps.exports.put("talk", "t", TALK)
    with pytest.raises(InvalidMessage, match="no export format 'docx'; choose one of txt, json"):
        await ps.exports.export("talk", "t", "docx")
    with pytest.raises(InvalidMessage, match="cannot be the id of an export"):
        await ps.exports.export("talk", "t", "txt", id="document:talk/t")
    with pytest.raises(InvalidMessage, match="a kind without a slash"):
        await ps.exports.put("a/b", "t", TALK)
    assert await ps.exports.list() == []


async def test_subtitles_without_times_fail_with_the_path(ps: Penstock) -> None:
    segments = (Segment(text="a", start=0, end=1), Segment(text="b"))
    await ps.exports.put("talk", "t", Document(title="T", segments=segments))
    with pytest.raises(ExportFailed, match=r"\$\.segments\[1\]\.start"):
        await ps.exports.export("talk", "t", "srt", id="f", async_mode=False)
    state = await ps.exports.get("f")
    assert (state.state, state.file) == ("failed", None)
    with pytest.raises(ExportFailed, match=r"\$\.segments\[1\]\.start"):
        await ps.exports.read("f")


async def test_lists_are_newest_first_by_state_by_document_and_in_pages(ps: Penstock) -> None:
    await ps.exports.put("talk", "a", TALK)
    await ps.exports.put("talk", "b", Document(title="T", segments=(Segment(text="x"),)))
    await ps.exports.put("note", "a", TALK)
    await ps.exports.export("talk", "a", "txt", id="1", async_mode=False)
    with pytest.raises(ExportFailed):
        await ps.exports.export("talk", "b", "srt", id="2", async_mode=False)
    await ps.exports.export("talk", "b", "txt", id="3", async_mode=False)
    listed = ps.exports.list
    assert [s.id for s in await listed()] == ["3", "2", "1"]
    assert [s.id for s in await listed(state="completed")] == ["3", "1"]
    assert [s.id for s in await listed(kind="talk", document="b")] == ["3", "2"]
    assert [s.id for s in await listed(limit=1, before="3")] == ["2"]
    with pytest.raises(NotFound, match="leave `before` out"):
        await listed(before="gone")
    documents = await ps.exports.documents()
    assert [(d.kind, d.id) for d in documents] == [("note", "a"), ("talk", "b"), ("talk", "a")]
    rest = await ps.exports.documents(kind="talk", before=documents[1])
    assert [d.id for d in rest] == ["a"]


async def test_the_formats_tell_what_they_are(ps: Penstock) -> None:
    formats = {format.name: format for format in await ps.exports.formats()}
    assert {"txt", "json", "srt", "csv"} <= set(formats)
    assert formats["srt"].timed
    assert formats["csv"].suffix == ".csv"


async def test_a_download_is_saved_under_its_own_name_or_the_given_one(
    ps: Penstock, tmp_path: Path
) -> None:
    content = await exported(ps, "txt")
    [state] = await ps.exports.list()
    folder = tmp_path / "files"
    folder.mkdir()
    assert await ps.exports.download(state.id, folder) == folder / "A talk.txt"
    target = folder / "other.txt"
    target.write_text("old")
    assert await ps.exports.download(state.id, str(target)) == target
    assert target.read_bytes() == content
    assert {path.name for path in folder.iterdir()} == {"A talk.txt", "other.txt"}


async def test_an_interrupted_download_leaves_nothing_and_keeps_what_was_there(
    ps: Penstock, tmp_path: Path
) -> None:
    text = "x" * 100
    long = Document(title="L", segments=tuple(Segment(text=text) for _ in range(120_000)))
    await exported(ps, "txt", long)
    [state] = await ps.exports.list()
    bus = ps.session.bus
    stream = f"OBJ_{bus.subjects.stream('files')}"
    assert state.file is not None
    [last] = await bus.direct_get(
        stream, {"last_by_subj": f"$O.{bus.subjects.stream('files')}.C.>"}
    )
    await bus.api(f"STREAM.MSG.DELETE.{stream}", {"seq": last.sequence})
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "L.txt").write_text("old")
    with pytest.raises(PenstockError, match="are gone"):
        await ps.exports.download(state.id, folder)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"L.txt": "old"}


async def test_a_file_that_somebody_replaced_is_not_given_out(
    ps: Penstock, stored: ObjectStore, tmp_path: Path
) -> None:
    await exported(ps, "txt")
    [state] = await ps.exports.list()
    await stored.put(f"exports/{state.id}", b"something else")
    with pytest.raises(Damaged, match="not the one that was made"):
        await ps.exports.download(state.id, tmp_path / "out.txt")
    assert not (tmp_path / "out.txt").exists()


async def test_the_file_of_an_unknown_export_is_not_found(ps: Penstock) -> None:
    with pytest.raises(NotFound, match="knows no 'never'"):
        await ps.exports.read("never")
