"""A stream's messages in order, from a sequence on and then as they come.

An ordered pull consumer of our own: the client library's notices a restarted server or a deleted
consumer only after some 16 s, this one within two missed heartbeats. Never acknowledges and never
decodes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from penstock.contracts.errors import PenstockError
from penstock.infra.bus import Bus

log = logging.getLogger(__name__)

PULL = 500
MOST = 4000  # messages that wait to be taken, before no more are asked for
# What one pull may bring: more than the largest message, and two of them far less than the 64 MiB
# for which the server takes a reader to be too slow.
PULL_BYTES = 16 * 1024 * 1024
HEARTBEAT = 0.5  # seconds
SILENCE = 2.5 * HEARTBEAT
EXPIRES = 30.0  # seconds that one pull stays open
INACTIVE = 60.0  # seconds after which the server forgets a consumer that nobody pulls from
CREATE = 2.0  # seconds for making the consumer; one that leads it may just have died
RETRY = 0.1
NANOSECONDS = 1_000_000_000
_IDLE = "100"
_PULL_REQUEST = msgspec.json.encode(
    {
        "batch": PULL,
        "max_bytes": PULL_BYTES,
        "expires": int(EXPIRES * NANOSECONDS),
        "idle_heartbeat": int(HEARTBEAT * NANOSECONDS),
    }
)


class Followed(msgspec.Struct, frozen=True, gc=False):
    """One message: `pending` messages stand behind it in the stream now."""

    sequence: int
    subject: str
    data: bytes
    pending: int


class Follower:
    """Use as an async context manager; then call `batch` again and again."""

    def __init__(self, bus: Bus, stream: str, subject: str, after: int = 0) -> None:
        self._bus = bus
        self._stream = stream
        self._subject = subject
        self.sequence = after
        self.problem: str | None = None  # why it cannot follow now
        self._pending = 0
        self._buffer: list[Followed] = []
        self._bytes = 0  # in the buffer
        self._news = asyncio.Event()
        self._broken = True
        self._heard = 0.0
        self._connection = 0
        self._position = 0  # of the last message in its consumer
        self._open_pulls = 0  # messages asked for that did not come yet
        self._consumer = ""
        self._subscription: Subscription | None = None

    async def __aenter__(self) -> Follower:
        self._bus.listeners.add(self._news.set)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._bus.listeners.discard(self._news.set)
        await self.close()

    async def close(self) -> None:
        """Stop following; what was not given out comes again with the next start."""
        self._broken = True
        subscription, self._subscription = self._subscription, None
        if subscription is not None and not self._bus.nc.is_closed:
            await subscription.unsubscribe()
        consumer, self._consumer = self._consumer, ""
        if consumer and self._bus.nc.is_connected:
            try:
                await self._bus.api(f"CONSUMER.DELETE.{self._stream}.{consumer}", timeout=1)
            except PenstockError as error:
                log.debug("consumer %s is gone already: %s", consumer, error)

    async def open(self) -> int:
        """Begin, however long it takes; how many messages stand behind `sequence` now."""
        while self._stale():
            await self._restart()
        return self._pending

    async def news(self) -> None:
        """Wait for at least one message that was not given out.

        Heals itself: after a lost connection, a gap or a silence it begins anew behind the last
        message that it gave out.
        """
        while not self._buffer:
            self._news.clear()
            if self._stale():
                await self._restart()
            await self._pull_if_low()
            await self._wait()

    async def batch(self) -> list[Followed]:
        """The messages that came since the last call; waits for at least one."""
        await self.news()
        got, self._buffer, self._bytes = self._buffer, [], 0
        self.sequence = got[-1].sequence
        await self._pull_if_low()
        return got

    @property
    def newest(self) -> int:
        """The sequence of the last message that came."""
        return self._buffer[-1].sequence if self._buffer else self.sequence

    async def _wait(self) -> None:
        try:
            # Not `wait_for`: until Python 3.12 it forgets a cancellation that comes with the news.
            async with asyncio.timeout(HEARTBEAT):
                await self._news.wait()
        except TimeoutError:
            return  # time to look whether all is well

    def _stale(self) -> bool:
        silent = asyncio.get_running_loop().time() - self._heard > SILENCE
        return self._broken or silent or self._connection != self._bus.connections

    async def _restart(self) -> None:
        await self.close()
        try:
            await self._start()
        except PenstockError as error:
            log.warning("cannot follow %s yet: %s", self._stream, error)
            self.problem = f"it cannot follow {self._stream}: {error}"
            await asyncio.sleep(RETRY)
        else:
            self.problem = None

    async def _start(self) -> None:
        config: dict[str, Any] = {
            "ack_policy": "none",
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self.sequence + 1,
            "filter_subject": self._subject,
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": int(INACTIVE * NANOSECONDS),
            "max_deliver": 1,
        }
        request = {"stream_name": self._stream, "config": config}
        self._connection = self._bus.connections
        reply = await self._bus.api(f"CONSUMER.CREATE.{self._stream}", request, timeout=CREATE)
        self._consumer, self._pending = reply["name"], reply["num_pending"]
        self._position = self._open_pulls = 0
        self._heard = asyncio.get_running_loop().time()
        self._broken = False
        self._subscription = await self._bus.nc.receive(self._bus.nc.new_inbox(), self._take)

    async def _pull_if_low(self) -> None:
        """Keep two pulls open, so that one is always on its way while the other is filled."""
        while not self._broken and self._subscription and self._is_low:
            self._open_pulls += PULL
            self._heard = asyncio.get_running_loop().time()  # silence counts from the question
            await self._bus.publish(
                f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}",
                _PULL_REQUEST,
                reply=self._subscription.subject,
            )

    @property
    def _is_low(self) -> bool:
        room = len(self._buffer) < MOST and self._bytes < PULL_BYTES
        return room and self._open_pulls <= PULL

    async def _pull_on(self) -> None:
        try:
            await self._pull_if_low()
        except PenstockError:
            self._broken = True

    async def _take(self, msg: Msg) -> None:
        self._heard = asyncio.get_running_loop().time()
        if not msg.reply:
            self._take_status(msg.headers or {})
            return
        sequence, position, pending = delivery(msg.reply)
        self._position += 1
        if self._broken or position != self._position:
            self._broken = True
        else:
            self._open_pulls -= 1
            self._buffer.append(Followed(sequence, msg.subject, msg.data, pending))
            self._bytes += len(msg.data)
            if self._open_pulls == PULL:
                await self._pull_on()
        self._news.set()

    def _take_status(self, headers: Mapping[str, str]) -> None:
        unused = headers.get("Nats-Pending-Messages")
        if headers.get("Status") == _IDLE:
            # The last message before the silence may be the one that was lost.
            self._broken |= int(headers.get("Nats-Last-Consumer", 0)) != self._position
        elif unused is not None:  # a pull expired, or would have brought too much
            self._open_pulls -= int(unused)
        else:  # the consumer is gone
            self._broken = True
        self._news.set()


def delivery(reply: str) -> tuple[int, int, int]:
    """Stream sequence, consumer position and messages pending, from a delivery's reply subject.

    `$JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<position>.<time>.<pending>`, in newer
    servers with `<domain>.<account>` after ACK and a token at the end (ADR-15).
    """
    fields = reply.split(".")
    start = 5 if len(fields) == 9 else 7
    return int(fields[start]), int(fields[start + 1]), int(fields[start + 3])
