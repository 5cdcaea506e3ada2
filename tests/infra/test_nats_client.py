"""Messages are written and read as the library does it, and it still asks our way of doing so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats import errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import Header

from penstock.infra.bus import Bus
from penstock.infra.nats_client import NatsClient
from penstock.infra.nats_frames import batch_frames, frame, ingest_reply, numbered, reply_frames
from penstock.infra.nats_parser import MessageParser, headers_of
from penstock.infra.nats_server import EmbeddedNats
from support.proxy import Proxy


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\r\n",
        b"Nats-Expected-Last-Subject-Sequence: 7\r\n\r\n",
        b"Nats-Batch-Id: 0a1b\r\nNats-Batch-Sequence: 2\r\nNats-Batch-Commit: 1\r\n\r\n",
        b"traceparent:00-a-b-01\r\nname:\tvalue \r\nempty:\r\nurl: http://a:1\r\n\r\n",
        "Text: größe – 日本\r\n\r\n".encode(),
        b"Broken: \xff\xfe\r\nno colon\r\n\r\n",
        b"Twice: 1\r\nTwice: 2\r\n\r\n",
    ],
)
def test_headers_are_read_as_by_the_library(raw: bytes) -> None:
    assert NatsClient._parse_header_lines(raw) == Client._parse_header_lines(raw)


async def test_the_library_asks_our_way_of_reading_headers(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []

    def reading(raw: bytes) -> dict[str, str]:
        read.append(raw)
        return {"Read": "by us"}

    subscription = await bus.nc.subscribe("headers")
    monkeypatch.setattr(NatsClient, "_parse_header_lines", staticmethod(reading))
    await bus.publish("headers", b"", {"Name": "value"})
    assert (await subscription.next_msg(5)).headers == {"Read": "by us"}
    assert read


class Wire(Client):
    """The library's client, with what it would send in `sent`."""

    def __init__(self) -> None:
        super().__init__()
        self._status = Client.CONNECTED
        self._max_payload = 1024
        self.sent = b""

    async def _send_command(self, cmd: bytes, priority: bool = False) -> None:
        self.sent += cmd


@pytest.mark.parametrize("reply", ["", "_INBOX.a.1"])
@pytest.mark.parametrize(
    "headers",
    [
        None,
        {},
        {"Nats-Msg-Id": "a"},
        {Header.ROLLUP: "sub"},
        {"Nats-Batch-Id": "0a", "Nats-Batch-Sequence": " 2 ", "Text": "größe: 日本"},
    ],
)
async def test_messages_are_written_as_by_the_library(
    headers: dict[str, str] | None, reply: str
) -> None:
    wire = Wire()
    await wire.publish("a.b", b"body\r\n", reply, headers)
    assert frame("a.b", b"body\r\n", headers, reply) == wire.sent.replace(b"a.b  ", b"a.b ")


@pytest.mark.parametrize(
    ("subject", "reply", "headers"),
    [
        ("", "", None),
        ("a b", "", None),
        ("a\r\nPUB b 0", "", None),
        ("a", "b\r\nPUB b 0", None),
        ("größe", "", None),
        ("a", "", {"no name": "value"}),
        ("a", "", {"": "value"}),
        ("a", "", {"Name": "two\r\nlines"}),
        ("a", "", {"Name\r\nOther": "value"}),
    ],
)
def test_what_is_unusual_is_left_to_the_library(
    subject: str, reply: str, headers: dict[str, str] | None
) -> None:
    assert frame(subject, b"", headers, reply) is None


words = st.sampled_from(["a", "a.b", "", "a b", "a\r\nPUB b 0", "a\0b", "größe", "100%"])
shared = {"Nats-Expected-Last-Subject-Sequence": "0"}
header = st.just(shared) | st.dictionaries(st.sampled_from(["Name", "Other"]), words, max_size=2)
usual = st.tuples(st.sampled_from(["a", "a.b"]), st.binary(max_size=9), st.just(shared))


@given(st.lists(st.tuples(words, st.binary(max_size=9), header) | usual, max_size=6))
def test_members_of_a_batch_are_written_as_each_by_itself_or_not_at_all(
    messages: list[tuple[str, bytes, dict[str, str]]],
) -> None:
    each = [frame(*member) for member in numbered(messages, "0a1b", 7)]
    assert batch_frames(messages, "0a1b", 7) in (None, each)


@given(st.lists(st.tuples(words, st.binary(max_size=9), header) | usual, max_size=6))
def test_those_that_want_replies_are_written_as_each_by_itself_or_not_at_all(
    messages: list[tuple[str, bytes, dict[str, str]]],
) -> None:
    replies = [ingest_reply("in.7", place, len(messages)) for place in range(1, len(messages) + 1)]
    each = [frame(*one, reply=to) for one, to in zip(messages, replies, strict=True)]
    assert reply_frames(messages, replies) in (None, each)


def test_usual_members_of_a_batch_are_written_at_once() -> None:
    messages = [("a.b", b"1", shared), ("c", b"\0 \r\n", {"Nats-Msg-Id": "c:7"}), ("d", b"", {})]
    assert batch_frames(messages, "0a1b", 1) is not None
    assert batch_frames([], "0a1b", 1) == []
    assert reply_frames(messages, ["in.1", "in.2", "in.3"]) is not None
    assert reply_frames([], []) == []


@pytest.mark.parametrize(
    "unusual",
    [
        ("a b", b"", {}),
        ("", b"", {}),
        ("größe", b"", {}),
        ("a\r\nPUB b 0", b"", {}),
        ("a", b"", {"Name": "two\r\nlines"}),
    ],
)
def test_many_with_an_unusual_one_are_left_to_the_library(
    unusual: tuple[str, bytes, dict[str, str]],
) -> None:
    messages = [("a.b", b"1", shared), unusual]
    assert reply_frames(messages, ["in.1", "in.2"]) is None
    assert batch_frames(messages, "id", 1) is None


async def test_a_subject_that_cannot_be_is_refused_as_by_the_library(bus: Bus) -> None:
    with pytest.raises(errors.BadSubjectError):
        await bus.nc.publish("a b", b"")
    with pytest.raises(errors.BadHeaderError):
        await bus.nc.publish("a", b"", headers={"no name": "value"})


async def test_many_messages_arrive_in_their_order(bus: Bus, prefix: str) -> None:
    subscription = await bus.nc.subscribe(f"{prefix}.many")
    sent = [(f"{prefix}.many", b"%d" % n, {"Number": f"{n}\r\n"[: n % 3]}) for n in range(100)]
    await bus.publish_many(sent)
    assert [(await subscription.next_msg(5)).data for _ in sent] == [body for _, body, _ in sent]


async def test_what_is_sent_while_disconnected_is_sent_later(
    bus: Bus, cut_bus: Bus, proxy: Proxy, prefix: str
) -> None:
    subscription = await bus.nc.subscribe(f"{prefix}.later")
    await bus.nc.flush()
    proxy.cut()
    async with asyncio.timeout(60):
        while cut_bus.nc.is_connected:
            await asyncio.sleep(0)
    await cut_bus.publish_many([(f"{prefix}.later", b"%d" % n, {}) for n in range(3)])
    assert [(await subscription.next_msg(10)).data for _ in range(3)] == [b"0", b"1", b"2"]


async def test_what_cannot_be_kept_while_disconnected_is_refused() -> None:
    client = NatsClient()
    with pytest.raises(errors.OutboundBufferLimitError):
        await client.publish("a", b"body")


RAW = [
    b"NATS/1.0\r\nName: value\r\n\r\n",
    b"NATS/1.0\r\n\r\n",
    b"NATS/1.0 503\r\n\r\n",
    b"NATS/1.0 404 No Messages\r\n\r\n",
    b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 1016\r\n\r\n",
    b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 1\r\n\r\n",
]


@pytest.mark.parametrize("raw", RAW)
async def test_a_status_is_read_as_by_the_library(raw: bytes) -> None:
    assert headers_of(raw) == await Client()._process_headers(raw)


class Reader(NatsClient):
    """Keeps what it is given: by `take`, or the library's way."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[Any] = []
        self.takers[1] = self._take

    async def _take(self, msg: Msg) -> None:
        self.got.append((1, msg.subject, msg.reply, msg.data, msg.headers))

    async def _process_msg(self, sid: int, *message: Any) -> None:
        self.got.append((sid, *message))

    async def _process_ping(self) -> None:
        self.got.append("ping")


STREAM = (
    b"MSG a 1 4\r\nbody\r\n"
    b"PING\r\n"
    b"MSG a 1 r.1 2\r\n\r\n\r\n"
    b"HMSG a 1 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nMS\r\n"
    b"HMSG a 1 r.2 12 12\r\nNATS/1.0\r\n\r\n\r\n"
    b"+OK\r\n"
    b"MSG b 2 r.3 0\r\n\r\n"
    b"HMSG b 2 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"
)
TAKEN = [
    (1, "a", "", b"body", None),
    "ping",
    (1, "a", "r.1", b"\r\n", None),
    (1, "a", "", b"MS", {"A": "b"}),
    (1, "a", "r.2", b"", None),
    (2, b"b", b"r.3", b"", None),
    (2, b"b", b"", b"", b"NATS/1.0 503\r\n\r\n"),
]


@pytest.mark.parametrize("piece", [1, 2, 7, 40, len(STREAM)])
async def test_messages_are_read_however_they_are_cut(piece: int) -> None:
    reader = Reader()
    parser = MessageParser(reader)
    for at in range(0, len(STREAM), piece):
        await parser.parse(STREAM[at : at + piece])
    assert reader.got == TAKEN
    assert not parser.buf


async def test_what_is_no_message_ends_the_connection() -> None:
    for line in (b"NONSENSE\r\n", b"MSG a 1 four\r\n", b"MSG\r\n"):
        with pytest.raises(errors.ProtocolError):
            await MessageParser(Reader()).parse(line)


async def test_a_callback_that_raises_is_told_and_the_next_message_comes(
    bus: Bus, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    got: asyncio.Queue[bytes] = asyncio.Queue()

    async def take(msg: Msg) -> None:
        got.put_nowait(msg.data)
        if msg.data == b"bad":
            raise ValueError("it is bad")

    subscription = await bus.nc.receive(f"{prefix}.take", take)
    await bus.publish_many([(f"{prefix}.take", body, {}) for body in (b"bad", b"good")])
    assert [await asyncio.wait_for(got.get(), 30) for _ in range(2)] == [b"bad", b"good"]
    assert "it is bad" in caplog.text
    await subscription.unsubscribe()
    assert subscription._id not in bus.nc.takers


async def test_a_client_that_lost_the_cancellation_of_its_reconnecting_ends_all_the_same(
    fresh_nats: EmbeddedNats,
) -> None:
    bus = await Bus.connect(fresh_nats.url)
    lost = asyncio.create_task(bus.nc._select_next_server())
    bus.nc._reconnection_task = lost  # as if it had not been cancelled
    await fresh_nats.stop()
    await asyncio.sleep(0)
    bus.nc._status = Client.CLOSED
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(30):
            await lost
