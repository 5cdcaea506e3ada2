"""Removes from a stream what its consumers have acknowledged, many messages at a time.

A work queue has the server remove each message as it is acknowledged. Where it syncs every write to
the disk, that costs more than all else about a short job. So a stream of work or of commands keeps
what is acknowledged for a moment, until everything up to a place can go in one step.

After a server was killed a consumer may take a message for acknowledged which nobody acknowledged
(https://github.com/nats-io/nats-server/issues/5727). So what it had delivered until a connection
was made is looked at before it is removed, and put back if it is still needed; a consumer's own
metadata can tell up to where that was done with the present server. Never handles it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

import msgspec

from penstock.infra.bus import Bus, Stored
from penstock.infra.consuming.consumers import consumers_of, update_consumer
from penstock.infra.consuming.removal import remove_message
from penstock.infra.consuming.stranded import Instead, PuttingBack
from penstock.infra.repeated import Repeated

LOOK = 0.5  # seconds between two looks
MANY, LATEST = 5_000, 1.0  # messages that go at once; seconds that fewer wait for others
SHARE = 10  # of the time at most a tenth goes into looking
LONGEST_PAUSE = 5.0  # seconds after a look that took long, such as the first
PAGE = 500  # messages read at a time
GRACE = 2.0  # seconds that a lost message waits for whoever may have it in hand
MOST = 10_000
AT_ONCE = 16  # removals by themselves
EVERYTHING = 1 << 62
DOUBTFUL = "penstock.doubtful"  # the server's id, and up to where another may have delivered

Settled = Callable[[Sequence[Stored]], Awaitable[Collection[int]]]


class _Limits(msgspec.Struct, frozen=True):
    """See `clearing`."""

    latest: float
    most: int
    page: int


class _Lane(msgspec.Struct):
    """What is known of one consumer: all up to `doubtful` is looked at, all up to `cleared` is
    gone, since a moment and when so many `deliveries` had been acknowledged, and behind the floor
    it was looked when there had been `swept` of them.
    """

    created: str
    doubtful: int
    cleared: int = 0
    since: float = 0.0
    deliveries: int = 0
    swept: int = 0

    def is_due(self, consumer: dict[str, Any], now: float, latest: float) -> bool:
        """Whether it is time to remove something."""
        floor = consumer["ack_floor"]
        if floor["stream_seq"] <= self.cleared:
            return False
        is_much = floor["consumer_seq"] - self.deliveries >= MANY
        return is_much or now - self.since >= latest

    def gone(self, upto: int, consumer: dict[str, Any], now: float) -> None:
        """All up to a place was removed."""
        self.cleared, self.since = upto, now
        self.deliveries = consumer["ack_floor"]["consumer_seq"]


def clearing(
    bus: Bus,
    stream: str,
    settled: Settled,
    *,
    consumer: str | None = None,
    behind: Settled | None = None,
    instead: Instead | None = None,
    every: float = LOOK,
    latest: float = LATEST,
    most: int = MOST,
    page: int = PAGE,
) -> Repeated:
    """A part of the service that clears `stream`, unless its server does.

    It removes what `consumer` has taken, whose metadata it may change, or any. `settled` gives the
    sequences of those messages of which nothing is to be done any more; it may do what is left.
    `instead` is as for `stranded`. What is acknowledged goes after `latest` seconds or when it is
    much; behind a message that is not acknowledged for long stand `most` others that are, and of
    these `behind` tells, which must not touch those that are in hand. It is `settled` if nothing
    else is given. They are asked about a `page` of messages at a time.
    """
    ask, limits = (settled, behind or settled), _Limits(latest, most, page)
    look = Clearing(bus, stream, ask, instead, limits, consumer=consumer).look
    return Repeated(f"removal of what is done from {stream}", look, every=every)


class Clearing:
    """Clears one stream. Several instances may do so, and each may end at any moment."""

    def __init__(
        self,
        bus: Bus,
        stream: str,
        ask: tuple[Settled, Settled],
        instead: Instead | None,
        limits: _Limits,
        *,
        consumer: str | None,
    ) -> None:
        self._bus = bus
        self._stream = stream
        self._settled, self._settled_behind = ask
        self._consumer = consumer
        self._put_back = PuttingBack(bus, stream, instead)
        self._limits = limits
        self._lanes: dict[str, _Lane] = {}
        self._lost: dict[int, float] = {}  # since when
        self._connections = 0
        self._next = 0.0

    async def look(self) -> None:
        """Remove what can go. Raises PenstockError when the server cannot be asked now."""
        now = asyncio.get_running_loop().time
        if (began := now()) < self._next:
            return
        try:
            await self._look()
        finally:
            self._next = now() + min((SHARE - 1) * (now() - began), LONGEST_PAUSE)

    async def _look(self) -> None:
        connections = self._bus.connections
        info = await self._bus.api(f"STREAM.INFO.{self._stream}")
        if info["config"]["retention"] != "limits":
            return
        if not info["state"]["messages"] and connections == self._connections:
            return
        consumers = await self._consumers()
        if connections != self._bus.connections:
            return  # another server than before may have told some of it
        if connections != self._connections:
            self._lanes.clear()
            self._connections = connections
        for consumer in consumers:
            await self._clear(await self._lane(consumer), consumer)

    async def _consumers(self) -> list[dict[str, Any]]:
        if self._consumer is None:
            return await consumers_of(self._bus, self._stream)
        return [await self._bus.api(f"CONSUMER.INFO.{self._stream}.{self._consumer}")]

    async def _lane(self, consumer: dict[str, Any]) -> _Lane:
        lane = self._lanes.get(consumer["name"])
        if lane is None or lane.created != consumer["created"]:
            doubtful = await self._doubtful(consumer)
            lane = self._lanes[consumer["name"]] = _Lane(consumer["created"], doubtful)
        return lane

    async def _doubtful(self, consumer: dict[str, Any]) -> int:
        """Up to where an earlier server may have delivered."""
        here = self._bus.nc.server_id
        if "cluster" in consumer or not here:
            return EVERYTHING  # another one may take over unseen
        delivered: int = consumer["delivered"]["stream_seq"]
        if self._consumer is None:
            return delivered
        config = consumer["config"]
        server, _, noted = config.get("metadata", {}).get(DOUBTFUL, "").partition(" ")
        if server == here:
            return int(noted)
        config["metadata"] = {**config.get("metadata", {}), DOUBTFUL: f"{here} {delivered}"}
        await update_consumer(self._bus, self._stream, config)
        return delivered

    async def _clear(self, lane: _Lane, consumer: dict[str, Any]) -> None:
        subject, floor = consumer["config"]["filter_subject"], consumer["ack_floor"]["stream_seq"]
        now = asyncio.get_running_loop().time()
        if lane.is_due(consumer, now, self._limits.latest):
            if lane.cleared < lane.doubtful:
                floor = await self._settled_up_to(subject, floor, lane.doubtful)
            await self._purge(subject, floor)
            lane.gone(floor, consumer, now)
        await self._sweep(lane, consumer)

    async def _purge(self, subject: str, upto: int) -> None:
        request = {"filter": self._purged(subject), "seq": upto + 1}
        await self._bus.api(f"STREAM.PURGE.{self._stream}", request)

    def _purged(self, subject: str) -> str:
        """What a consumer of `subject` filters, in words in which the server does not see that.

        Where it does it forgets what that consumer is to deliver anew; see `removal`. It takes
        neither of `*.work.q.5.*` and `penstock.*.q.5.*` for a part of the other, and in a stream of
        work they are the same.
        """
        first, _, rest = subject.partition(".")
        if first != "*":
            return subject
        return f"{self._bus.subjects.prefix}.*.{rest.partition('.')[2]}"

    # -- what is in doubt --------------------------------------------------------------------

    async def _settled_up_to(self, subject: str, floor: int, doubtful: int) -> int:
        """Up to where everything can go, as far as `floor` at most."""
        start, end = 1, min(floor, doubtful)
        while found := await self._page(subject, start, end):
            settled = await self._settled(found)
            if lost := [message for message in found if message.sequence not in settled]:
                await self._see_to(lost)
                return lost[0].sequence - 1
            await self._purge(subject, found[-1].sequence)  # whoever is killed has got on
            start = found[-1].sequence + 1
        return floor

    async def _page(self, subject: str, start: int, end: int) -> list[Stored]:
        request = {"seq": start, "next_by_subj": subject, "batch": self._limits.page}
        found = await self._bus.direct_get(self._stream, request)
        return [message for message in found if message.sequence <= end]

    async def _see_to(self, lost: Sequence[Stored]) -> None:
        now = asyncio.get_running_loop().time()
        self._lost = {one.sequence: self._lost.get(one.sequence, now) for one in lost}
        over = [one for one in lost if now - self._lost[one.sequence] >= GRACE]
        await asyncio.gather(*map(self._put_back, over))

    # -- behind one that takes long ----------------------------------------------------------

    async def _sweep(self, lane: _Lane, consumer: dict[str, Any]) -> None:
        """Remove by themselves those that stand behind one that is not acknowledged for long."""
        delivered, floor = consumer["delivered"], consumer["ack_floor"]
        done = delivered["consumer_seq"] - max(floor["consumer_seq"], lane.swept)
        if done - consumer["num_ack_pending"] < self._limits.most:
            return
        subject, start = consumer["config"]["filter_subject"], floor["stream_seq"] + 1
        while found := await self._page(subject, start, delivered["stream_seq"]):
            await self._remove(await self._settled_behind(found))
            start = found[-1].sequence + 1
        lane.swept = delivered["consumer_seq"]

    async def _remove(self, sequences: Collection[int]) -> None:
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(sequence: int) -> None:
            async with slots:
                await remove_message(self._bus, self._stream, sequence)

        await asyncio.gather(*map(one, sequences))
