"""What else there is in memory beside jobs, and that the rest says that it is not there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from penstock.client import Handlers, NotFound, Refused, TooLarge
from penstock.client.testing import NotInMemory, TestSystem
from penstock.contracts.lifecycle import ARCHIVE
from penstock.contracts.search import DeleteDocument


async def test_a_progress_is_made_updated_and_completed() -> None:
    async with TestSystem(Handlers()) as ps:
        await ps.progress.create("p", stages=["read", "write"])
        await ps.progress.update("p", 40, stage="read", message="reading")
        assert (await ps.progress.get("p")).percent == 40
        await ps.progress.complete("p")
        assert (await ps.progress.list(state="completed"))[0].id == "p"
        with pytest.raises(Refused):
            await ps.progress.update("p", 50)
        with pytest.raises(NotFound):
            await ps.progress.get("q")
        assert len(await ps.progress.history("p")) == 3


async def test_a_notification_is_asserted_by_a_part_of_it() -> None:
    async with TestSystem(Handlers()) as ps:
        await ps.notifications.send("ada", {"title": "Hello", "body": "Welcome"})
        await ps.notifications.broadcast({"title": "News"}, channel="all")
        assert ps.assert_notified("ada", {"title": "Hello"})["body"] == "Welcome"
        ps.assert_notified(channel="all")
        with pytest.raises(AssertionError, match=r"(?s)'user:bob'.*There are:.*user:ada .*Hello"):
            ps.assert_notified("bob")
        ps.assert_not_notified("bob")
        with pytest.raises(AssertionError, match=r"(?s)A notification was sent.*user:ada .*Hello"):
            ps.assert_not_notified("ada", {"body": "Welcome"})
        with pytest.raises(TooLarge):
            await ps.notifications.send("ada", {"title": "x" * 40_000})


async def test_an_inbox_tells_what_is_unread() -> None:
    async with TestSystem(Handlers()) as ps:
        for title in ("first", "second"):
            await ps.notifications.send("ada", {"title": title}, id=title)
        await ps.notifications.mark_read("ada", ["first"])
        inbox = await ps.notifications.inbox("ada")
        assert [(item.id, item.read == ps.now) for item in inbox.items] == [
            ("second", False),
            ("first", True),
        ]
        assert inbox.unread == 1
        assert (await ps.notifications.inbox("bob")).items == ()


async def test_a_notification_sent_twice_is_sent_once() -> None:
    async with TestSystem(Handlers()) as ps:
        first = await ps.notifications.send("ada", {"title": "Hello"}, id="n")
        assert await ps.notifications.send("ada", {"title": "Hello"}, id="n") == first


async def test_a_cached_value_lives_until_its_time_or_its_tag_is_over() -> None:
    async with TestSystem(Handlers()) as ps:
        made: list[int] = []

        async def value() -> int:
            made.append(len(made))
            return len(made)

        async def read() -> int:
            return await ps.cache.get_or_set("k", value, ttl=60, tags=["t"])

        assert [await read(), await read()] == [1, 1]
        await ps.advance(seconds=60)
        assert await read() == 2
        await ps.cache.invalidate(["t"])
        assert [await read(), await read()] == [3, 3]
        await ps.cache.delete("k")
        assert await ps.cache.get("k") is None
        assert (ps.cache.stats().hits, ps.cache.stats().expired, ps.cache.stats().stale) == (
            2,
            1,
            1,
        )


ELSEWHERE: dict[str, Callable[[TestSystem], Any]] = {
    "ps.search.search": lambda ps: ps.search.search,
    "ps.exports.export": lambda ps: ps.exports.export,
    "ps.changes.publish": lambda ps: ps.changes.publish,
    "ps.notifications.listen": lambda ps: anext(ps.notifications.listen("ada")),
    "'token'": lambda ps: ps.notifications.token("ada"),
    "penstock.jobs.archive": lambda ps: ps.session.command(ARCHIVE["jobs"](before={}), id="a"),
    "penstock.search.delete": lambda ps: ps.session.command(DeleteDocument(), id="d"),
    "ps.cache.look": lambda ps: ps.cache.why("k"),
    "the connection to NATS": lambda ps: ps.session.bus.publish,
}


@pytest.mark.parametrize("what", ELSEWHERE)
async def test_what_is_not_there_says_so(what: str) -> None:
    async with TestSystem(Handlers()) as ps:
        with pytest.raises(NotInMemory, match=f"{what}.*Test it on a real system"):
            await ELSEWHERE[what](ps)
