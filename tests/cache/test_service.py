"""The cache as an application sees it: the SDK, changes and HTTP over a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import msgspec
import pytest

from penstock.cache.service import build
from penstock.client import Penstock
from penstock.contracts.cache import TagState
from penstock.contracts.changes import EntityChanged
from penstock.contracts.envelope import encode, wrap
from penstock.contracts.errors import InvalidMessage, Timeout
from penstock.contracts.subjects import MSG_ID
from penstock.infra.dead_letters.burying import DeadLetter
from penstock.infra.host import Host
from penstock.infra.testing import running_system


@pytest.fixture
async def system(nats_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[Host]:
    async with running_system(nats_url, prefix, tmp_path, {"cache": build}) as host:
        yield host


@pytest.fixture
async def ps(system: Host, nats_url: str, prefix: str) -> AsyncIterator[Penstock]:
    async with Penstock(nats_url, prefix=prefix, actor="tester") as client:
        yield client


@pytest.fixture
async def other(system: Host, nats_url: str, prefix: str) -> AsyncIterator[Penstock]:
    async with Penstock(nats_url, prefix=prefix, actor="other") as client:
        yield client


async def fill(ps: Penstock) -> None:
    await ps.cache.set("user:1", "ann", tags=["user", "user:1"])
    await ps.cache.set("user:2", "ben", tags=["user", "user:2"])
    await ps.cache.set("page", "<html>", tags=["profile", "layout"])
    await ps.cache.set("plain", 1)


async def cached(ps: Penstock) -> set[str]:
    keys = ["user:1", "user:2", "page", "plain"]
    return {key for key in keys if await ps.cache.get(key) is not None}


async def invalidated(ps: Penstock, tag: str, count: int) -> None:
    """Wait until `tag` was invalidated `count` times."""
    async for state in ps.session.watch("cache", tag, TagState):
        if state.count >= count:
            return


async def test_invalidating_a_tag_lets_go_of_exactly_the_entries_that_carry_it(
    ps: Penstock, other: Penstock
) -> None:
    await fill(ps)
    assert await cached(other) == {"user:1", "user:2", "page", "plain"}
    await ps.cache.invalidate(["user:1"])
    assert await cached(ps) == await cached(other) == {"user:2", "page", "plain"}
    await ps.cache.invalidate(["user", "layout"])
    assert await cached(ps) == await cached(other) == {"plain"}


async def test_invalidating_is_one_event_for_each_tag_and_tells_the_sequence_of_the_last(
    ps: Penstock, system: Host
) -> None:
    for number in range(20):
        await ps.cache.set(f"key {number}", number, tags=["many"])
    first = await ps.cache.invalidate(["many"], reason="imported")
    second = await ps.cache.invalidate(["many", "few"])
    assert (first, second) == (1, 3)
    assert await system.services[0].log.last_sequence() == 3


async def test_a_change_lets_go_of_exactly_what_it_concerns(ps: Penstock) -> None:
    await fill(ps)
    await ps.changes.publish("user", "1")
    assert await cached(ps) == {"page", "plain"}
    await fill(ps)
    await ps.changes.publish("order", "9", tags=["user:2", "layout"])
    assert await cached(ps) == {"user:1", "plain"}


async def test_ones_own_change_is_visible_at_once_and_anothers_soon(
    ps: Penstock, other: Penstock
) -> None:
    for number in range(50):
        await ps.cache.set("user:1", number, tags=["user:1"])
        await ps.changes.publish("user", "1")
        assert await ps.cache.get("user:1") is None
        assert await other.cache.get("user:1") is None  # by now it is applied for everyone
    await other.cache.set("user:1", "new", tags=["user:1"])
    await ps.changes.publish("user", "1")
    async with asyncio.timeout(30):
        while await other.cache.get("user:1") is not None:
            await asyncio.sleep(0)


async def test_a_change_is_told_in_the_flow_of_its_cause(ps: Penstock) -> None:
    with ps.correlated("flow-1"):
        await ps.changes.publish("user", "1", tags=["profile"], version=4, change_id="change-1")
    await invalidated(ps, "user", 1)
    await invalidated(ps, "user:1", 1)
    await invalidated(ps, "profile", 1)
    entries = await ps.flow("flow-1")
    assert {entry.subject for entry in entries} == {"user", "user:1", "profile"}
    assert {entry.actor for entry in entries} == {"tester"}
    assert {entry.data["cause"] for entry in entries} == {"change-1"}
    assert {entry.data["reason"] for entry in entries} == {"user 1 changed to version 4"}


async def test_a_change_delivered_again_has_no_second_event(
    ps: Penstock, prefix: str, system: Host
) -> None:
    change = wrap(
        EntityChanged(entity="user", id="1"),
        id="change-1",
        subject="user:1",
        time=datetime.now(UTC),
        correlationid="flow-1",
    )
    bus = ps.session.bus
    for delivery in "12":  # twice in the stream: their Nats-Msg-Ids differ
        headers = {MSG_ID: f"delivery-{delivery}"}
        await bus.publish_acked(bus.subjects.change("user", "1"), encode(change), headers)
    await ps.changes.publish("user", "2")
    await ps.cache.set("user:2", 1, tags=["user:2"])
    await invalidated(ps, "user", 2)
    history = await ps.session.history("cache", "user")
    assert [entry.data["cause"] for entry in history].count("change-1") == 1
    assert len(await ps.session.history("cache", "user:1")) == 1


async def test_publishing_again_with_the_same_id_is_publishing_once(ps: Penstock) -> None:
    first = await ps.changes.publish("user", "1", change_id="c-1")
    assert await ps.changes.publish("user", "1", change_id="c-1") == first
    assert await ps.changes.publish("user", "1", change_id="c-2") == first + 1


async def test_changes_published_while_the_service_is_away_are_applied_when_it_is_back(
    nats_url: str, prefix: str, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        async with running_system(nats_url, prefix, tmp_path, {"cache": build}):
            ps = await stack.enter_async_context(Penstock(nats_url, prefix=prefix))
            other = await stack.enter_async_context(Penstock(nats_url, prefix=prefix))
            for number in range(30):
                await ps.cache.set(f"item:{number}", number, tags=[f"item:{number}"])
                if number < 10:
                    await ps.changes.publish("item", str(number))
        for number in range(10, 20):
            await ps.changes.publish("item", str(number))
        # Its own changes are not applied, so this client passes the cache over for them.
        assert await ps.cache.get("item:15") is None
        assert await other.cache.get("item:15") == 15
        async with running_system(nats_url, prefix, tmp_path, {"cache": build}):
            await invalidated(ps, "item", 20)
            for client in (ps, other):
                found = [await client.cache.get(f"item:{number}") for number in range(30)]
                assert found == [None] * 20 + list(range(20, 30))
            assert len(await ps.session.history("cache", "item")) == 20


async def test_instances_share_the_changes_and_store_each_once(
    nats_url: str, prefix: str, tmp_path: Path
) -> None:
    async with (
        running_system(nats_url, prefix, tmp_path / "a", {"cache": build}),
        running_system(nats_url, prefix, tmp_path / "b", {"cache": build}),
        Penstock(nats_url, prefix=prefix) as ps,
    ):
        await asyncio.gather(*(ps.changes.publish("user", str(n)) for n in range(40)))
        await invalidated(ps, "user", 40)
        history = await ps.session.history("cache", "user")
        assert len({entry.data["cause"] for entry in history}) == len(history) == 40


async def test_a_change_that_cannot_be_decoded_becomes_a_dead_letter_and_holds_back_no_other(
    ps: Penstock, prefix: str
) -> None:
    bus = ps.session.bus
    await bus.publish_acked(bus.subjects.change("user", "1"), b"{}")
    await ps.changes.publish("user", "2")
    await invalidated(ps, "user", 1)
    subject = bus.subjects.dead("cache")
    async with asyncio.timeout(30):
        while not (found := await bus.direct_get(bus.subjects.stream("dead"),
                                                 {"last_by_subj": subject})):  # fmt: skip
            await asyncio.sleep(0)
    letter = msgspec.json.decode(found[0].data, type=DeadLetter)
    assert (letter.body, letter.reason.title) == ("{}", "Invalid message")
    assert letter.subject == bus.subjects.change("user", "1")


async def test_why_tells_which_event_made_an_entry_stale(ps: Penstock) -> None:
    await ps.cache.invalidate(["user"], reason="long ago")
    await ps.cache.set("user:1", "ann", tags=["user"])
    assert (await ps.cache.why("user:1")).state == "valid"
    sequence = await ps.cache.invalidate(["user"], reason="imported")
    why = await ps.cache.why("user:1")
    assert (why.state, why.tags, why.asof) == ("stale", ("user",), 1)
    assert [(e.sequence, e.actor, e.data["reason"]) for e in why.invalidations] == [
        (sequence, "tester", "imported")
    ]
    assert (await ps.cache.why("never set")).state == "absent"


async def test_an_invalidation_nobody_can_carry_out_now_is_stored_and_the_caller_is_told(
    nats_url: str, prefix: str, tmp_path: Path
) -> None:
    async with Penstock(nats_url, prefix=prefix, timeout=0.5) as ps:
        async with running_system(nats_url, prefix, tmp_path, {"cache": build}):
            await ps.cache.set("a", 1, tags=["t"])
        with pytest.raises(Timeout, match="stored and will be handled"):
            await ps.cache.invalidate(["t"])
        async with running_system(nats_url, prefix, tmp_path, {"cache": build}):
            await invalidated(ps, "t", 1)
            assert await ps.cache.get("a") is None


async def test_what_cannot_be_a_tag_or_a_change_is_refused_in_one_sentence(ps: Penstock) -> None:
    with pytest.raises(InvalidMessage, match=r"Tags are a list: write \['user'\]"):
        await ps.cache.invalidate("user")
    with pytest.raises(InvalidMessage, match="at least one tag"):
        await ps.cache.invalidate([])
    with pytest.raises(InvalidMessage, match="1 to 256 characters"):
        await ps.cache.set("a", 1, tags=["t" * 257])
    with pytest.raises(InvalidMessage, match="Tags are a list"):
        await ps.changes.publish("user", "1", tags="profile")
    with pytest.raises(InvalidMessage, match="1 to 256 characters"):
        await ps.changes.publish("user", "1" * 252)


async def test_tags_and_their_states_are_answered_over_http(ps: Penstock, system: Host) -> None:
    await ps.cache.invalidate(["a"], reason="first")
    await ps.cache.invalidate(["user:1"])
    await ps.cache.invalidate(["a"], reason="second")
    async with aiohttp.ClientSession(system.http_url) as http:
        async with http.get("/cache?min_seq=3") as response:
            tags = (await response.json())["data"]
        assert [(t["tag"], t["sequence"], t["count"], t["reason"]) for t in tags] == [
            ("a", 3, 2, "second"),
            ("user:1", 2, 1, None),
        ]
        async with http.get("/cache?before=3&limit=5") as response:
            assert [t["tag"] for t in (await response.json())["data"]] == ["user:1"]
        async with http.get("/cache?starting=user:") as response:
            assert [t["tag"] for t in (await response.json())["data"]] == ["user:1"]
        async with http.get("/cache/a") as response:
            assert (await response.json())["data"]["count"] == 2
        async with http.get("/cache/stats") as response:
            counts = {"tags": 2, "invalidations": 3, "reflects": 0}
            assert (await response.json())["data"] == counts
