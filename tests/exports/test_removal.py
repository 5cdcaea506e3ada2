"""What is erased with a document, also while the view does not know of all of it yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from penstock.client import Document, Erased, Penstock, Segment
from penstock.contracts.exports import document_key
from penstock.contracts.lifecycle import ERASE
from penstock.infra.host import Host
from support.waiting import until_raised

LETTER = Document(title="A letter", segments=(Segment(text="Dear Ann"),))


@asynccontextmanager
async def erased_behind(ps: Penstock, system: Host) -> AsyncIterator[None]:
    """The letter `a` is erased, and of what the block does the view knows nothing before."""
    [exports] = system.services
    await exports.projector.reach_end()
    async with exports.projector.paused():
        yield
        command = ERASE["exports"](reason="asked for")
        erasing = asyncio.create_task(ps.session.command(command, id=document_key("letter", "a")))
        await asyncio.wait((erasing,), timeout=0.5)
    await erasing


async def test_an_export_that_was_asked_for_just_before_is_erased_with_its_document(
    ps: Penstock, system: Host
) -> None:
    await ps.exports.put("letter", "a", LETTER)
    async with erased_behind(ps, system):
        await ps.exports.export("letter", "a", "txt", id="a-txt")
    # by a command of its own, which the document's erasure sent
    await until_raised(Erased, lambda: ps.exports.get("a-txt"))


async def test_content_that_another_document_was_just_given_stays(
    ps: Penstock, system: Host
) -> None:
    await ps.exports.put("letter", "a", LETTER)
    async with erased_behind(ps, system):
        await ps.exports.put("letter", "b", LETTER)
    export = await ps.exports.export("letter", "b", "txt", async_mode=False)
    assert b"Dear Ann" in await ps.exports.read(export.id)
