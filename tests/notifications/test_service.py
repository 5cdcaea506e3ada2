"""Notifications as an application sees them: the SDK over a real server and real sockets."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from msgspec.structs import replace

from penstock.client import Penstock
from penstock.contracts.errors import (
    InvalidMessage,
    NotFound,
    Refused,
    StartupError,
    TooLarge,
    Unavailable,
)
from penstock.contracts.notifications import Notification, SendNotification
from penstock.infra.host import Host, wait_ready
from penstock.infra.settings import Settings
from penstock.notifications.service import build


async def test_an_inbox_lists_newest_first_and_counts_what_is_unread(ps: Penstock) -> None:
    for n in range(5):
        await ps.notifications.send("u", {"title": str(n)}, id=f"n{n}")
    page = await ps.notifications.inbox("u", limit=2)
    assert [item.id for item in page.items] == ["n4", "n3"]
    assert (page.unread, page.version) == (5, page.items[0].sequence)
    older = await ps.notifications.inbox("u", before=page.items[-1].sequence)
    assert [item.content for item in older.items] == [{"title": t} for t in ("2", "1", "0")]
    empty = await ps.notifications.inbox("nobody")
    assert (empty.items, empty.unread, empty.version) == ((), 0, 0)


async def test_what_was_read_is_no_longer_counted_however_often_it_is_said(ps: Penstock) -> None:
    sent = [await ps.notifications.send("u", {}, id=f"n{n}") for n in range(5)]
    await ps.notifications.mark_read("u", ["n3", "unknown"])
    once = await ps.notifications.inbox("u")
    await ps.notifications.mark_read("u", "n3")
    inbox = await ps.notifications.inbox("u")
    assert inbox.items == once.items  # with the time at which it was first read
    assert inbox.unread == 4
    assert [item.id for item in inbox.items if item.read] == ["n3"]
    await ps.notifications.mark_read("u", through=sent[1].sequence)
    unread = await ps.notifications.inbox("u", unread=True)
    assert ([item.id for item in unread.items], unread.unread) == (["n4", "n2"], 2)
    assert unread.version > inbox.version
    with pytest.raises(NotFound, match="no notifications to read"):
        await ps.notifications.mark_read("nobody", "n1")


async def test_more_ids_than_a_command_holds_are_marked_all_the_same(ps: Penstock) -> None:
    ids = [f"n{n}" for n in range(120)]
    await asyncio.gather(*(ps.notifications.send("u", {}, id=id) for id in ids))
    await ps.notifications.mark_read("u", ids)
    assert (await ps.notifications.inbox("u")).unread == 0


async def test_sending_the_same_notification_twice_is_sending_it_once(ps: Penstock) -> None:
    first = await ps.notifications.send("u", {"title": "a"}, id="order-1")
    await ps.notifications.send("u", {"title": "between"})
    again = await ps.notifications.send("u", {"title": "a"}, id="order-1")
    assert again == first
    other = await ps.notifications.send("v", {"title": "a"}, id="order-1")
    assert other.sequence > first.sequence  # the same id to another user is another notification
    assert [i.content["title"] for i in (await ps.notifications.inbox("u")).items] == [
        "between",
        "a",
    ]
    assert (await ps.notifications.inbox("v")).unread == 1


async def test_no_way_round_the_sdk_sends_one_notification_twice(ps: Penstock) -> None:
    await ps.notifications.send("u", {"title": "a"}, id="order-1")
    with pytest.raises(InvalidMessage, match=r"has the id 'notify\.user%3Au\.order-1'"):
        await ps.session.command(SendNotification(id="order-1", content={}), id="user:u")
    unnamed = SendNotification(content={"title": "b"})
    for _ in range(2):
        await ps.session.command(unnamed, id="user:u", command_id="mine")
    assert [item.id for item in (await ps.notifications.inbox("u")).items] == ["mine", "order-1"]


async def test_a_notification_is_of_limited_size_and_goes_where_it_can(ps: Penstock) -> None:
    with pytest.raises(TooLarge, match="at most 32768 bytes"):
        await ps.notifications.send("u", {"body": "x" * 33_000})
    with pytest.raises(InvalidMessage, match="channel:<name>"):
        await ps.notifications.broadcast({}, channel="inbox")
    with pytest.raises(InvalidMessage, match="user:<name>"):
        await ps.session.command(SendNotification(content={}), id="channel:news")


async def test_tokens_are_not_given_out_over_http(ps: Penstock, host: Host) -> None:
    sent = await ps.notifications.send("u", {"title": "a"})
    async with aiohttp.ClientSession(host.http_url) as http:
        async with http.get("/notifications/token?user=u") as response:
            assert response.status == 404
        async with http.get("/openapi.json") as response:
            paths = (await response.json())["paths"]
        assert not any("token" in path for path in paths)
        asked = {"min_seq": str(sent.sequence)}
        async with http.get("/notifications/inbox/u", params=asked) as response:
            assert (await response.json())["data"]["unread"] == 1


async def test_listening_goes_on_from_the_version_of_the_inbox(ps: Penstock) -> None:
    await ps.notifications.send("u", {"n": 0})
    version = (await ps.notifications.inbox("u")).version
    sent = [await ps.notifications.send("u", {"n": n}) for n in (1, 2)]
    async with asyncio.timeout(60), aclosing(ps.notifications.listen("u", after=version)) as heard:
        got = [await anext(heard) for _ in sent]
    assert [(n.id, n.sequence, n.content) for n in got] == [
        (receipt.id, receipt.sequence, {"n": n}) for n, receipt in enumerate(sent, 1)
    ]
    assert all(n.replay and n.channel == "inbox" for n in got)


async def test_several_channels_are_heard_each_from_its_own_position(ps: Penstock) -> None:
    first = await ps.notifications.broadcast({"n": 1}, channel="news")
    await ps.notifications.broadcast({"n": 2}, channel="news")
    await ps.notifications.send("u", {"n": 3})
    after = {"news": first.sequence, "inbox": 0}
    listening = ps.notifications.listen("u", channels=["news"], after=after)
    async with asyncio.timeout(60), aclosing(listening) as heard:
        got = {(n.channel, n.content["n"]) for n in [await anext(heard), await anext(heard)]}
    assert got == {("news", 2), ("inbox", 3)}


async def test_nothing_is_lost_or_doubled_when_the_service_restarts(
    nats_url: str, prefix: str, tmp_path: Path
) -> None:
    settings = Settings(data=str(tmp_path), prefix=prefix, http_port=0, durability="os")
    host = await _started(settings, nats_url, tmp_path)
    settings = replace(settings, http_port=urlsplit(host.http_url).port or 0)
    try:
        async with (
            Penstock(nats_url, http_url=host.http_url, prefix=prefix, timeout=30) as ps,
            asyncio.timeout(60),
            aclosing(ps.notifications.listen("u", after=0)) as heard,
        ):
            sending = asyncio.create_task(_send(ps, 300))
            got = [await anext(heard) for _ in range(40)]
            await host.drain()
            host = await _started(settings, nats_url, tmp_path)
            got += [await anext(heard) for _ in range(260)]
            await sending
    finally:
        await host.drain()
    assert sorted(n.content["n"] for n in got) == list(range(300))
    assert [n.sequence for n in got] == sorted(n.sequence for n in got)


async def _send(ps: Penstock, count: int) -> None:
    for batch in range(0, count, 5):
        await asyncio.gather(
            *(ps.notifications.send("u", {"n": n}) for n in range(batch, batch + 5))
        )


async def _started(settings: Settings, nats_url: str, directory: Path) -> Host:
    host = Host(settings, nats_url, {"notifications": build}, directory / "views")
    await host.start()
    await wait_ready(host, 30)
    return host


async def test_listening_from_a_position_that_is_gone_says_so(ps: Penstock) -> None:
    for n in range(3):
        await ps.notifications.send("u", {"n": n})
    bus = ps.session.bus
    await bus.api(f"STREAM.PURGE.{bus.subjects.event_stream('notifications')}", {"seq": 3})
    with pytest.raises(Refused, match="go on from its version"):
        await _first(ps.notifications.listen("u", after=1))


async def test_listening_says_what_it_lacks(
    ps: Penstock, nats_url: str, prefix: str, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Penstock(nats_url, prefix=prefix) as without_http:
        with pytest.raises(Unavailable, match="http_url="):
            await _first(without_http.notifications.listen("u"))
    wrong = f"{host.http_url}/somewhere"
    async with Penstock(nats_url, prefix=prefix, http_url=wrong) as lost:
        with pytest.raises(NotFound, match="no gateway at"):
            await _first(lost.notifications.listen("u"))
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(StartupError, match=r"penstock\[websocket\]"):
        await _first(ps.notifications.listen("u"))


async def _first(listening: AsyncGenerator[Notification, None]) -> Notification:
    async with asyncio.timeout(60), aclosing(listening) as heard:
        return await anext(heard)


async def test_a_secret_that_is_too_short_stops_the_start(
    start: Callable[..., Awaitable[Host]],
) -> None:
    with pytest.raises(StartupError, match="PENSTOCK_SECRET"):
        await start(secret="short")
