"""Sockets go on over a rebuild of the view that feeds them, without a gap or a repetition."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from penstock.client import Penstock
from penstock.contracts.views import Rebuild
from penstock.infra.control import ask_all


async def rebuild(ps: Penstock) -> None:
    reports = [r async for r in ask_all(ps.session.bus, "notifications", "rebuild", Rebuild())]
    assert reports[-1].problem is None


async def test_a_listener_hears_everything_once_while_the_view_is_rebuilt(ps: Penstock) -> None:
    await ps.notifications.send("u", {"n": -1})
    version = (await ps.notifications.inbox("u")).version
    async with asyncio.timeout(30), aclosing(ps.notifications.listen("u", after=version)) as heard:
        sent = 0
        for _ in range(2):
            rebuilding = asyncio.create_task(rebuild(ps))
            while not rebuilding.done():
                await ps.notifications.send("u", {"n": sent})
                sent += 1
            await rebuilding
        await ps.notifications.send("u", {"n": sent})
        assert [(await anext(heard)).content["n"] for _ in range(sent + 1)] == [*range(sent + 1)]
    inbox = await ps.notifications.inbox("u", limit=1)
    assert inbox.unread == sent + 2


async def test_who_joins_after_a_rebuild_goes_on_from_the_new_view(ps: Penstock) -> None:
    await ps.notifications.send("u", {"n": 0})
    await rebuild(ps)
    version = (await ps.notifications.inbox("u")).version
    await ps.notifications.send("u", {"n": 1})
    async with asyncio.timeout(60), aclosing(ps.notifications.listen("u", after=version)) as heard:
        assert (await anext(heard)).content == {"n": 1}
