"""The bus on a real server: what each call answers, and what it says when nothing answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from nats.aio.msg import Msg

from penstock.contracts.errors import Timeout, TooLarge, Unavailable
from penstock.contracts.subjects import EXPECTED, MSG_ID
from penstock.infra.bus import Bus, ConnectionLost, StreamError
from penstock.infra.nats_server import EmbeddedNats
from support.proxy import Proxy


@pytest.fixture
def subject(bus: Bus) -> Callable[[str], str]:
    return lambda id: bus.subjects.event("progress", id)


@pytest.fixture
def stream(bus: Bus) -> str:
    return bus.subjects.event_stream("progress")


async def test_an_acknowledged_publish_is_stored(
    bus: Bus, subject: Callable[[str], str], stream: str
) -> None:
    ack = await bus.publish_acked(subject("a"), b"body", {"Colour": "blue"})
    assert (ack.stream, ack.seq, ack.duplicate) == (stream, 1, False)
    [stored] = await bus.direct_get(stream, {"last_by_subj": subject("a")})
    assert (stored.sequence, stored.subject, stored.data) == (1, subject("a"), b"body")
    assert stored.headers["Colour"] == "blue"


async def test_the_same_message_id_is_stored_once(bus: Bus, subject: Callable[[str], str]) -> None:
    for duplicate in (False, True):
        ack = await bus.publish_acked(subject("a"), b"", {MSG_ID: "m-1"})
        assert (ack.seq, ack.duplicate) == (1, duplicate)


async def test_a_refusal_has_the_servers_number(bus: Bus, subject: Callable[[str], str]) -> None:
    await bus.publish_acked(subject("a"), b"")
    with pytest.raises(StreamError, match="wrong last sequence") as caught:
        await bus.publish_acked(subject("a"), b"", {EXPECTED: "0"})
    assert caught.value.err_code == 10071


async def test_a_subject_without_a_stream_is_said_to_be_unprovisioned(bus: Bus) -> None:
    with pytest.raises(Unavailable, match="No stream takes this subject"):
        await bus.publish_acked(f"{bus.subjects.prefix}.nowhere", b"")


async def test_direct_reads_answer_every_form_of_request(
    bus: Bus, subject: Callable[[str], str], stream: str
) -> None:
    for number in range(6):
        await bus.publish_acked(subject("ab"[number % 2]), b"%d" % number)

    async def data(request: dict[str, object]) -> list[bytes]:
        return [message.data for message in await bus.direct_get(stream, request)]

    assert await data({"seq": 2}) == [b"1"]
    assert await data({"last_by_subj": subject("a")}) == [b"4"]
    assert await data({"seq": 1, "next_by_subj": subject("b"), "batch": 2}) == [b"1", b"3"]
    assert await data({"seq": 3, "next_by_subj": subject("b"), "batch": 9}) == [b"3", b"5"]
    assert await data({"multi_last": [subject("a"), subject("b")]}) == [b"4", b"5"]
    assert await data({"seq": 99}) == []
    assert await data({"last_by_subj": subject("c")}) == []
    assert await data({"seq": 1, "next_by_subj": subject("c"), "batch": 9}) == []
    assert await data({"multi_last": [subject("c")]}) == []


async def test_a_batch_tells_how_many_stand_behind_it(
    bus: Bus, subject: Callable[[str], str], stream: str
) -> None:
    for _ in range(5):
        await bus.publish_acked(subject("a"), b"")
    batch = await bus.direct_get(stream, {"seq": 1, "next_by_subj": subject("a"), "batch": 3})
    assert [message.pending for message in batch] == [4, 3, 2]


async def test_a_read_of_a_stream_that_is_not_there_says_so(bus: Bus) -> None:
    with pytest.raises(Unavailable, match="is the stream there"):
        await bus.direct_get("NO_SUCH_STREAM", {"seq": 1})


async def test_a_refused_api_request_names_it_and_has_its_number(bus: Bus) -> None:
    with pytest.raises(StreamError, match=r"refused STREAM\.INFO\.NOPE") as caught:
        await bus.api("STREAM.INFO.NOPE")
    assert caught.value.err_code == 10059


async def test_a_request_is_answered(bus: Bus) -> None:
    async def echo(msg: Msg) -> None:
        await msg.respond(msg.data.upper())

    await bus.nc.subscribe(f"{bus.subjects.prefix}.echo", cb=echo)
    assert await bus.request(f"{bus.subjects.prefix}.echo", b"abc") == b"ABC"


async def test_a_request_that_nobody_takes_fails_at_once(bus: Bus) -> None:
    with pytest.raises(Unavailable, match="Nobody answers on"):
        await bus.request(f"{bus.subjects.prefix}.nobody", timeout=30)


async def test_a_request_without_an_answer_ends_in_time(bus: Bus) -> None:
    async def ignore(msg: Msg) -> None:
        """A responder that says nothing."""

    await bus.nc.subscribe(f"{bus.subjects.prefix}.mute", cb=ignore)
    async with asyncio.timeout(60):
        with pytest.raises(Timeout, match="No answer came in time"):
            await bus.request(f"{bus.subjects.prefix}.mute", timeout=0.1)


async def test_a_message_that_is_too_large_is_refused_and_the_connection_stays(
    bus: Bus, subject: Callable[[str], str]
) -> None:
    headers = {"Colour": "blue" * 500}
    largest = bus.nc.max_payload
    refused = 0
    for size in range(largest - 6000, largest + 1, 500):
        try:
            await bus.publish_acked(subject("a"), bytes(size), dict(headers))
        except TooLarge as error:
            refused += 1
            assert str(size) in str(error)
            assert "object store" in str(error)
    assert 0 < refused < 13
    assert bus.connections == 1


async def test_closing_fails_whoever_still_waits(nats_url: str, prefix: str) -> None:
    bus = await Bus.connect(nats_url, prefix=prefix)
    _, future = bus.follow_up(timeout=60)
    await bus.close()
    with pytest.raises(Unavailable, match="connection was closed"):
        await future


async def test_no_server_is_said_in_one_sentence_without_the_password() -> None:
    with pytest.raises(Unavailable, match="penstock up") as caught:
        await Bus.connect("nats://me:secret@127.0.0.1:1", timeout=0.3)
    assert "127.0.0.1:1" in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_refused_credentials_are_named_as_the_reason(nats_url: str) -> None:
    with pytest.raises(Unavailable, match="Authorization Violation"):
        await Bus.connect(f"nats://me:secret@{nats_url.rpartition('@')[2]}", timeout=1.0)


async def test_a_lost_connection_fails_at_once_what_the_server_was_to_answer(
    cut_bus: Bus, proxy: Proxy, subject: Callable[[str], str], stream: str
) -> None:
    proxy.lose, proxy.cut_then = b'"seq":', True
    async with asyncio.timeout(30):
        with pytest.raises(ConnectionLost):
            await cut_bus.publish_acked(subject("a"), b"stored all the same", timeout=60)
    [stored] = await cut_bus.direct_get(stream, {"last_by_subj": subject("a")})
    assert stored.data == b"stored all the same"
    assert cut_bus.connections == 2


async def test_an_answer_with_a_subject_of_its_own_comes_over_the_next_connection(
    cut_bus: Bus, bus: Bus, proxy: Proxy
) -> None:
    reply, future = cut_bus.follow_up(timeout=30)
    proxy.lose, proxy.cut_then = b"account_info_response", True
    with pytest.raises(ConnectionLost):
        await cut_bus.api("INFO", timeout=60)
    await cut_bus.api("INFO")  # answered: it is connected again
    await bus.publish(reply, b"late but here")
    assert (await future)[0].data == b"late but here"


async def test_nothing_hangs_when_the_server_goes_and_does_not_come_back(
    fresh_nats: EmbeddedNats, prefix: str
) -> None:
    bus = await Bus.connect(fresh_nats.url, prefix=prefix)
    waiting = [asyncio.create_task(bus.api("INFO", timeout=1)) for _ in range(100)]
    waiting += [
        asyncio.create_task(bus.publish_acked(f"{prefix}.x", b"", timeout=1)) for _ in range(100)
    ]
    await asyncio.sleep(0)
    await fresh_nats.stop()
    waiting += [asyncio.create_task(bus.api("INFO", timeout=0.2)) for _ in range(100)]
    async with asyncio.timeout(60):
        results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, Unavailable | dict) for result in results)
    assert all(isinstance(result, Unavailable) for result in results[-100:])
    await bus.close()
