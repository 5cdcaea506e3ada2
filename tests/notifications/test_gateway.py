"""The gateway as any client of `penstock.v1.json` sees it: real sockets, a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from penstock.client import Penstock
from penstock.infra.auth import Tokens
from penstock.infra.host import Host, kept_secret
from penstock.notifications.limits import AUDIENCE, Limits

Open = Callable[..., Awaitable[Any]]
limited = pytest.mark.parametrize


async def test_a_notification_reaches_every_socket_of_its_user_and_no_other(
    ps: Penstock, open_wire: Open
) -> None:
    first, second, stranger = [await open_wire(user) for user in ("u", "u", "other")]
    for wire in (first, second, stranger):
        await wire.ask(sub={"ch": "inbox"})
    sent = await ps.notifications.send("u", {"title": "hello", "data": {"n": 1}}, id="n-1")
    await ps.notifications.send("other", {"title": "not for u"})
    for wire in (first, second):
        event = await wire.event()
        assert (event["ch"], event["seq"], event["id"]) == ("inbox", sent.sequence, "n-1")
        assert event["data"] == {"title": "hello", "data": {"n": 1}}
        assert (event["type"], "replay" in event) == ("notification", False)
    assert (await stranger.event())["data"] == {"title": "not for u"}


async def test_a_position_is_replayed_in_an_unbroken_chain_and_then_live(
    ps: Penstock, open_wire: Open
) -> None:
    sent = []
    for n in range(250):  # several pages, and another's notifications between
        sent.append((await ps.notifications.send("u", {"n": n})).sequence)
        if n % 10 == 0:
            await ps.notifications.send("other", {})
    wire = await open_wire("u")
    epoch = (await wire.ask(sub={"ch": "inbox"}))["sub"]["epoch"]
    await wire.ask(unsub={"ch": "inbox"})
    reply = await wire.ask(sub={"ch": "inbox", "epoch": epoch, "seq": sent[4]})
    assert reply["sub"] == {"epoch": epoch, "from": sent[4], "top": sent[-1], "recovered": True}
    events = await wire.events(245)
    assert [e["seq"] for e in events] == sent[5:]
    assert [e["prev"] for e in events] == sent[4:-1]
    assert all(e["replay"] for e in events)
    assert (await wire.receive())["live"] == {"ch": "inbox", "seq": sent[-1]}
    last = await ps.notifications.send("u", {})
    assert (await wire.event())["prev"] == sent[-1] < last.sequence


async def test_a_first_subscription_gets_only_what_is_new(ps: Penstock, open_wire: Open) -> None:
    old = await ps.notifications.send("u", {"title": "old"})
    wire = await open_wire("u")
    reply = (await wire.ask(sub={"ch": "inbox"}))["sub"]
    assert (reply["from"], reply["top"], reply["recovered"]) == (old.sequence, old.sequence, False)
    await ps.notifications.send("u", {"title": "new"})
    assert (await wire.event())["data"] == {"title": "new"}


async def test_nothing_is_lost_or_doubled_by_reconnecting_while_sending_goes_on(
    ps: Penstock, open_wire: Open
) -> None:
    first = await ps.notifications.send("u", {"n": -1})

    async def send_all() -> None:
        for batch in range(0, 400, 8):
            await asyncio.gather(
                *(ps.notifications.send("u", {"n": n}) for n in range(batch, batch + 8))
            )

    sending = asyncio.create_task(send_all())
    position = first.sequence
    seen: list[int] = []
    while len(seen) < 400:
        wire = await open_wire("u")
        await wire.send(sub={"ch": "inbox", "seq": position})
        for _ in range(min(37, 400 - len(seen))):
            event = await wire.event()
            assert event["prev"] == position
            position = event["seq"]
            seen.append(event["data"]["n"])
        wire.cut()
    await sending
    assert sorted(seen) == list(range(400))


async def test_a_channel_reaches_those_who_read_it_until_they_leave(
    ps: Penstock, open_wire: Open
) -> None:
    wire = await open_wire("u")
    await wire.ask(sub={"ch": "news"})
    await wire.ask(sub={"ch": "weather"})
    await ps.notifications.broadcast({"title": "a"}, channel="news", id="b-1")
    event = await wire.event()
    assert (event["ch"], event["id"], event["data"]) == ("news", "b-1", {"title": "a"})
    assert (await wire.ask(unsub={"ch": "news"}))["unsub"] == {"ch": "news"}
    await ps.notifications.broadcast({"title": "unheard"}, channel="news")
    await ps.notifications.broadcast({"title": "rain"}, channel="weather")
    assert (await wire.event())["data"] == {"title": "rain"}


async def test_reading_is_told_to_the_other_sockets(ps: Penstock, open_wire: Open) -> None:
    sent = await ps.notifications.send("u", {}, id="n")
    wire = await open_wire("u")
    await wire.ask(sub={"ch": "inbox"})
    await ps.notifications.mark_read("u", "n", through=sent.sequence)
    event = await wire.event()
    assert (event["type"], event["data"]) == ("read", {"ids": ["n"], "through": sent.sequence})


# -- positions that cannot be recovered ------------------------------------------------------


async def test_a_position_of_another_life_of_the_stream_is_unrecoverable(
    ps: Penstock, open_wire: Open
) -> None:
    wire = await open_wire("u")
    reply = await wire.ask(sub={"ch": "inbox", "epoch": "another", "seq": 0})
    assert (reply["err"]["code"], reply["err"]["temporary"]) == (112, False)
    assert (await wire.ask(sub={"ch": "inbox", "seq": 10_000}))["err"]["code"] == 112
    assert "sub" in await wire.ask(sub={"ch": "inbox"})  # and it may begin anew


async def test_a_position_that_the_log_no_longer_reaches_is_unrecoverable(
    ps: Penstock, open_wire: Open
) -> None:
    sent = [(await ps.notifications.send("u", {"n": n})).sequence for n in range(6)]
    bus = ps.session.bus
    stream = bus.subjects.event_stream("notifications")
    await bus.api(f"STREAM.PURGE.{stream}", {"seq": sent[3]})  # as retention would: 0, 1, 2 go
    wire = await open_wire("u")
    for gone in (0, sent[0]):
        assert (await wire.ask(sub={"ch": "inbox", "seq": gone}))["err"]["code"] == 112
    await wire.ask(sub={"ch": "inbox", "seq": sent[2]})
    assert [e["data"]["n"] for e in await wire.events(3)] == [3, 4, 5]


async def test_a_position_behind_erased_events_is_unrecoverable(
    ps: Penstock, open_wire: Open
) -> None:
    sent = [(await ps.notifications.send("u", {"n": n})).sequence for n in range(4)]
    bus = ps.session.bus
    stream = bus.subjects.event_stream("notifications")
    subject = bus.subjects.event("notifications", "user:u")
    await bus.api(f"STREAM.PURGE.{stream}", {"filter": subject, "keep": 1})
    wire = await open_wire("u")
    assert (await wire.ask(sub={"ch": "inbox", "seq": 0}))["err"]["code"] == 112
    assert "sub" in await wire.ask(sub={"ch": "inbox", "seq": sent[3]})


# -- who may come in -------------------------------------------------------------------------


async def test_a_bad_token_is_final_and_an_expired_one_is_not(host: Host, open_wire: Open) -> None:
    wire = await open_wire()
    assert (await wire.ask(connect={"token": "bad"}))["err"]["code"] == 101
    assert await wire.closed() == 3500
    tokens = Tokens(kept_secret(host.settings.data_path), AUDIENCE)
    old, _ = tokens.issue("u", timedelta(seconds=1), now=datetime(2020, 1, 1, tzinfo=UTC))
    wire = await open_wire()
    assert (await wire.ask(connect={"token": old}))["err"]["code"] == 109
    assert await wire.closed() == 3005


async def test_the_socket_ends_with_its_token(ps: Penstock, open_wire: Open) -> None:
    wire = await open_wire()
    token = await ps.notifications.token("u", lifetime=timedelta(seconds=2))
    assert (await wire.ask(connect={"token": token.token}))["connect"]["exp"] <= 2
    assert await wire.closed() == 3005
    assert datetime.now(UTC) >= token.expires


@limited("host", [Limits(to_connect=0.2)], indirect=True)
async def test_a_socket_that_does_not_say_who_it_is_is_closed(open_wire: Open) -> None:
    assert await (await open_wire()).closed() == 3502


@pytest.mark.parametrize("frame", ['{"id":1,"sub":{"ch":"inbox"}}', "not JSON", "[]"])
async def test_a_first_frame_other_than_connect_is_final(open_wire: Open, frame: str) -> None:
    wire = await open_wire()
    await wire.socket.send_str(frame)
    assert (await wire.receive())["err"]["code"] == 107
    if frame != "[]":
        assert await wire.closed() == 3501


async def test_another_version_of_the_protocol_is_refused(ps: Penstock, open_wire: Open) -> None:
    token = (await ps.notifications.token("u")).token
    wire = await open_wire()
    assert (await wire.ask(connect={"token": token, "ver": 2}))["err"]["code"] == 107
    assert await wire.closed() == 3501


async def test_browsers_may_connect_from_allowed_origins_and_their_own_host(
    start: Callable[..., Awaitable[Host]],
) -> None:
    host = await start(allowed_origins="https://app.example, https://other.example/")
    own = host.http_url
    async with aiohttp.ClientSession() as http:
        for origin in (own, "https://app.example", "https://other.example"):
            async with http.ws_connect(f"{own}/notifications/ws", headers={"Origin": origin}):
                pass
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect(
                f"{own}/notifications/ws", headers={"Origin": "https://evil.example"}
            )
        assert refused.value.status == 403


@limited("host", [Limits(connections=4, strangers=2, per_user=2, channels=1)], indirect=True)
async def test_sockets_are_capped_for_each_address_user_and_in_all(open_wire: Open) -> None:
    wires = [await open_wire("u"), await open_wire("u")]
    third = await open_wire()
    with pytest.raises(AssertionError):
        await open_wire("u")
    assert [await wires[0].ask(sub={"ch": c}) for c in ("inbox", "news")][1]["err"]["code"] == 106
    fourth = await open_wire()
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await open_wire()
    assert refused.value.status == 503
    await fourth.socket.close()
    await third.socket.close()


# -- what a socket may do --------------------------------------------------------------------


async def test_an_oversize_frame_ends_the_socket(open_wire: Open) -> None:
    wire = await open_wire("u")
    await wire.send(sub={"ch": "x" * 70_000})
    assert await wire.closed() == aiohttp.WSCloseCode.MESSAGE_TOO_BIG


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"ack": {"ch": "inbox", "seq": 1}}, 108),
        ({"unsub": {"ch": "news"}}, 107),
        ({"sub": {"ch": ""}}, 107),
        ({"sub": {"ch": "x" * 300}}, 107),
        ({"sub": {"ch": "inbox", "seq": "one"}}, 107),
        ({"connect": {"token": "again"}}, 107),
        ({"dance": {}}, 107),
    ],
)
async def test_what_cannot_be_done_is_answered_with_its_reason(
    open_wire: Open, request_: dict[str, Any], code: int
) -> None:
    wire = await open_wire("u")
    await wire.send(id=7, **request_)
    reply = await wire.receive()
    assert reply["err"]["code"] == code
    assert len(reply["err"]["msg"]) > 10


async def test_a_channel_is_subscribed_once(open_wire: Open) -> None:
    wire = await open_wire("u")
    await wire.ask(sub={"ch": "news"})
    assert (await wire.ask(sub={"ch": "news"}))["err"]["code"] == 107


@limited("host", [Limits(ping=0.1, to_pong=0.4)], indirect=True)
async def test_a_client_that_answers_pings_stays_and_one_that_does_not_goes(
    open_wire: Open,
) -> None:
    lively, silent = await open_wire("u"), await open_wire("u")
    for _ in range(6):  # longer than the deadline
        assert await lively.receive() == {"ping": {}}
        await lively.send(pong={})
    assert await silent.closed() == 3012
    assert "unsub" not in await lively.ask(unsub={"ch": "none"})


@limited("host", [Limits(queue=64 * 1024, to_close=300, ping=600)], indirect=True)
async def test_a_slow_client_is_closed_and_catches_up_from_the_log(
    ps: Penstock, open_wire: Open
) -> None:
    slow, brisk = await open_wire("u"), await open_wire("u")
    for wire in (slow, brisk):
        await wire.ask(sub={"ch": "inbox"})
    large = {"body": "x" * 30_000}
    count = 600  # 18 MB: more than the kernel holds for a reader who does not read
    position, seen = 0, 0
    for _ in range(0, count, 4):  # no more than may wait for whoever has read all before
        await asyncio.gather(*(ps.notifications.send("u", large) for _ in range(4)))
        assert len(await brisk.events(4)) == 4  # nobody else is slowed down
    with pytest.raises(AssertionError):  # the close, in the middle of reading
        while True:
            position = (await slow.event())["seq"]
            seen += 1
    assert slow.socket.close_code == 3008
    assert 0 < seen < count
    again = await open_wire("u")
    await again.send(sub={"ch": "inbox", "seq": position})
    assert len(await again.events(count - seen)) == count - seen
    assert "live" in await again.receive()


@limited("host", [Limits(queue=64 * 1024, to_close=0.3)], indirect=True)
async def test_a_client_that_never_reads_is_cut_off(
    host: Host, ps: Penstock, open_wire: Open
) -> None:
    stuck, witness = await open_wire("u"), await open_wire("u")
    await stuck.ask(sub={"ch": "inbox"})
    for _ in range(20):
        await asyncio.gather(
            *(ps.notifications.send("u", {"body": "x" * 30_000}) for _ in range(30))
        )
    async with aiohttp.ClientSession(host.http_url) as http, asyncio.timeout(60):
        while "penstock_sockets 1.0\n" not in await (await http.get("/metrics")).text():
            await asyncio.sleep(0.05)
    assert not witness.socket.closed
    assert await stuck.closed() == 1006  # what waited for it was let go, not kept for ever


async def test_draining_tells_every_socket_to_come_back(host: Host, open_wire: Open) -> None:
    wires = [await open_wire(f"u{n}") for n in range(20)]
    closing = asyncio.gather(*(wire.closed() for wire in wires))
    await host.drain()
    assert set(await closing) == {3001}
