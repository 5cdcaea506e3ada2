"""Documents become files in the object store, or nothing at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock.contracts.errors import InvalidMessage, NotFound
from penstock.contracts.exports import Document, Segment
from penstock.exports.formats import FORMATS
from penstock.exports.renderer import RenderedTooLong, Renderer
from penstock.infra.bus import Bus
from penstock.infra.objects import Objects
from penstock.infra.streams import provision

TALK = Document(title="T", segments=(Segment(text="a"),))


@pytest.fixture
async def objects(nats_url: str, prefix: str) -> AsyncIterator[Objects]:
    async with await Bus.connect(nats_url, prefix=prefix) as bus:
        await provision(bus)
        yield Objects(bus)


@pytest.fixture
async def renderer(objects: Objects, tmp_path: Path) -> AsyncIterator[Renderer]:
    renderer = Renderer(objects, tmp_path, at_once=1)
    yield renderer
    await renderer.stop()


def left_in(directory: Path) -> list[Path]:
    return list(directory.iterdir())


async def test_rendering_twice_is_rendering_once(
    renderer: Renderer, objects: Objects, tmp_path: Path
) -> None:
    first = await renderer.render("e", TALK, FORMATS["txt"])
    assert await renderer.render("e", TALK, FORMATS["txt"]) == first
    assert await objects.get(first.object) == b"T\n\na\n"
    assert left_in(tmp_path) == []


async def test_a_document_that_does_not_fit_leaves_no_file(
    renderer: Renderer, objects: Objects, tmp_path: Path
) -> None:
    with pytest.raises(InvalidMessage, match=r"\$\.segments\[0\]\.start"):
        await renderer.render("e", TALK, FORMATS["srt"])
    with pytest.raises(NotFound):
        await objects.info("exports/e")
    assert left_in(tmp_path) == []


async def test_rendering_that_takes_too_long_is_ended(objects: Objects, tmp_path: Path) -> None:
    renderer = Renderer(objects, tmp_path, at_once=1, longest=0)
    with pytest.raises(RenderedTooLong, match="export less at a time"):
        await renderer.render("e", TALK, FORMATS["txt"])
    await renderer.stop()
