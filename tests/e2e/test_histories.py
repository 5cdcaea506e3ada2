"""The history of any aggregate can be exported, also from the archive, and erased with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from penstock.cli.builders import builders
from penstock.client import Document, Erased, InvalidMessage, NotFound, Penstock, Segment
from penstock.contracts.lifecycle import ARCHIVE
from penstock.infra.testing import running_system
from support.command_line import CLEAN, assert_one_clear_line, penstock


@pytest.fixture
async def ps(nats_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[Penstock]:
    async with (
        running_system(nats_url, prefix, tmp_path, builders(("progress", "exports"))),
        Penstock(nats_url, prefix=prefix) as client,
    ):
        yield client


async def exported(ps: Penstock, id: str, directory: Path) -> list[dict[str, object]]:
    await ps.exports.export("history", "progress/p", "json", id=id, async_mode=False)
    path = await ps.exports.download(id, directory)
    document = msgspec.json.decode(path.read_bytes())
    assert document["title"] == "History of progress/p"
    return list(document["metadata"]["events"])


async def test_a_history_is_exported_from_the_log_and_from_the_archive_alike(
    ps: Penstock, tmp_path: Path
) -> None:
    await ps.progress.create("p", metadata={"a": 1})
    await ps.progress.complete("p")
    await ps.progress.get("p")
    before = await exported(ps, "x-1", tmp_path)
    assert [event["type"] for event in before] == [
        "penstock.progress.created.v1",
        "penstock.progress.completed.v1",
    ]
    later = datetime.now(UTC) + timedelta(hours=1)
    await ps.session.command(ARCHIVE["progress"](before={"completed": later}), id="archive")
    assert (await exported(ps, "x-2", tmp_path))[:2] == before


async def test_what_is_no_history_is_refused(ps: Penstock) -> None:
    with pytest.raises(InvalidMessage, match="such as jobs/42, not by 'p'"):
        await ps.exports.export("history", "p", "json")
    with pytest.raises(NotFound, match="progress knows no 'nobody'"):
        await ps.exports.export("history", "progress/nobody", "json")
    with pytest.raises(InvalidMessage, match="made from events"):
        document = Document(title="T", segments=(Segment(text="x"),))
        await ps.exports.put("history", "progress/p", document)


async def test_erasing_by_the_command_line_takes_the_exports_of_a_history_along(
    ps: Penstock, nats_url: str, prefix: str, tmp_path: Path
) -> None:
    await ps.progress.create("p", metadata={"name": "Rumpelstilzchen"})
    await exported(ps, "x-1", tmp_path)
    environ = {**CLEAN, "PENSTOCK_NATS_URL": nats_url, "PENSTOCK_PREFIX": prefix}
    arguments = ("erase", "p", "--reason", "asked for", "--yes")

    async def erase(*more: str) -> object:
        call = (*arguments, *more)
        return await asyncio.to_thread(penstock, *call, directory=tmp_path, environ=environ)

    result = await erase()
    assert result.returncode == 0, result.stderr  # type: ignore[attr-defined]
    assert "progress: erased 'p'" in result.stdout  # type: ignore[attr-defined]
    assert "exports: erased 'x-1'" in result.stdout  # type: ignore[attr-defined]
    assert "jobs: does not run" in result.stderr  # type: ignore[attr-defined]
    for gone in (ps.progress.get("p"), ps.exports.get("x-1")):
        with pytest.raises(Erased):
            await gone
    wrong = await asyncio.to_thread(
        penstock, "erase", "nobody", "--reason", "x", "--yes", directory=tmp_path, environ=environ
    )
    assert_one_clear_line(wrong, "No service that runs knows the id 'nobody'")
