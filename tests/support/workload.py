"""Something of everything that the six services do, for tests of what all of them share."""

from __future__ import annotations

import asyncio

from penstock.client import Penstock
from penstock.contracts.exports import Document, Segment
from penstock.contracts.lifecycle import ERASE
from penstock.contracts.search import SearchDocument


async def mixed(ps: Penstock, turn: str) -> None:
    """Do it once, with ids that end in `turn`."""
    await asyncio.gather(
        _progress(ps, turn),
        _notifications(ps, turn),
        _jobs(ps, turn),
        _exports(ps, turn),
        _cache(ps, turn),
        _search(ps, turn),
    )


async def _progress(ps: Penstock, turn: str) -> None:
    await ps.progress.create(f"p-{turn}", stages=["a", "b"], metadata={"n": 1, "list": [1, 2.5]})
    await ps.progress.update(f"p-{turn}", 5, stage="a")
    await ps.progress.advance_stage(f"p-{turn}")
    await ps.progress.create(f"gone-{turn}")
    await ps.progress.complete(f"gone-{turn}")
    await ps.progress.cleanup(f"gone-{turn}")
    await ps.progress.create(f"erased-{turn}")
    await ps.session.command(ERASE["progress"](reason="asked for"), id=f"erased-{turn}")
    await ps.progress.create(f"archived-{turn}")
    await ps.progress.complete(f"archived-{turn}")


async def _notifications(ps: Penstock, turn: str) -> None:
    for number in range(3):
        await ps.notifications.send("u", {"title": f"{turn} {number}"}, id=f"n-{turn}-{number}")
    await ps.notifications.mark_read("u", f"n-{turn}-1")
    await ps.notifications.broadcast({"title": turn}, channel="news")


async def _jobs(ps: Penstock, turn: str) -> None:
    await ps.jobs.enqueue("wait", {"turn": turn}, priority=3)
    delayed = await ps.jobs.enqueue("wait", {"turn": turn}, delay=3600)
    await ps.jobs.cancel(delayed.id)


async def _exports(ps: Penstock, turn: str) -> None:
    document = Document(title=turn, segments=(Segment(text=f"Hello {turn}.", start=0.0, end=1.0),))
    await ps.exports.put("talk", f"t-{turn}", document)
    await ps.exports.export("talk", f"t-{turn}", "txt", async_mode=False, timeout=30)


async def _cache(ps: Penstock, turn: str) -> None:
    await ps.cache.invalidate(["user", f"user:{turn}"], reason="test")
    await ps.changes.publish("order", turn, tags=["orders"])


async def _search(ps: Penstock, turn: str) -> None:
    for number in range(3):
        metadata = {"turn": turn, "n": number, "tags": ["x", "y"]}
        content = f"The quick brown fox number {number} jumps over {turn}."
        await ps.search.index(
            SearchDocument(id=f"d-{turn}-{number}", title=turn, content=content, metadata=metadata)
        )
    await ps.search.delete(f"d-{turn}-0")
    await ps.session.command(ERASE["search"](reason="asked for"), id=f"d-{turn}-1")
    await ps.search.index(SearchDocument(id="always", content=f"Once more, {turn}."))
