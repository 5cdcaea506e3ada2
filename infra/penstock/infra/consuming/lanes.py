"""Takes work from several durable consumers, the lanes, into one bounded hand.

A lane that had work is asked for as much as there is room for; one that had none keeps a pull
waiting at the server for its next message, so that work is picked up at once. Lost pulls, a
restarted server and a deleted consumer are noticed and healed. Never acknowledges what it handed
out, and never holds more than `capacity`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from penstock.contracts.errors import PenstockError, Unavailable
from penstock.infra.bus import Bus
from penstock.infra.consuming.consumers import NAK, NANOSECONDS, Delivery, delivery, ensure_consumer
from penstock.infra.inbox import status_of

log = logging.getLogger(__name__)

EXPIRES = 30.0  # seconds that a waiting pull stays at the server
HEARTBEAT = 1.0  # seconds between the server's signs that it still knows a waiting pull
SILENCE = 2.5 * HEARTBEAT  # seconds after which a pull counts as lost
EVERY = 8  # each eighth place goes to a lower lane, so that the lowest still moves
_WAITING, _AT_ONCE = "w", "a"


class Lane(msgspec.Struct, frozen=True):
    """A durable consumer and what it filters; a higher `rank` goes first."""

    consumer: str
    subject: str
    rank: int = 0


def allot(room: int, ranks: Sequence[int], turn: int) -> list[int]:
    """How many of `room` places each lane gets, for lanes in the order of their rank.

    Places go to the highest rank, those of equal rank in turn, but each eighth goes to the others
    in turn. `turn` counts the places that were filled before: one that a lane could not fill goes
    to the next of its kind.
    """
    given = [0] * len(ranks)
    top = sum(rank == ranks[0] for rank in ranks)
    lower = len(ranks) - top
    for place in range(turn, turn + room):
        if lower and place % EVERY == EVERY - 1:
            given[top + place // EVERY % lower] += 1
        else:
            given[place % top] += 1
    return given


class _Pull:
    """What is on its way for one lane: `asked` messages at once, or one `waiting` for news."""

    __slots__ = ("asked", "broken", "empty", "heard", "lane", "waiting")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.broken = False
        self.forget()

    def forget(self) -> None:
        """Nothing is on its way, and there may be work."""
        self.asked = 0
        self.waiting = False
        self.empty = False
        self.heard = 0.0

    def delivered(self) -> None:
        if self.asked:
            self.asked -= 1
        else:
            self.waiting = False
        self.empty = False

    def ended(self, kind: str) -> None:
        """A pull came to its end without filling: there is no work now."""
        if kind == _AT_ONCE:
            self.asked, self.empty = 0, True
        else:
            self.waiting = False


class Lanes:
    """Calls `take` for each message and what its delivery tells, which must not wait.

    Say `done` once it has left the hand.
    """

    def __init__(
        self,
        bus: Bus,
        stream: str,
        lanes: Sequence[Lane],
        *,
        capacity: int,
        ack_wait: float,
        take: Callable[[Msg, Delivery], Awaitable[None]],
    ) -> None:
        self.in_hand = 0
        self._bus = bus
        self._stream = stream
        self._pulls = [_Pull(lane) for lane in sorted(lanes, key=lambda lane: -lane.rank)]
        self._by_consumer = {pull.lane.consumer: pull for pull in self._pulls}
        self._capacity = capacity
        self._ack_wait = ack_wait
        self._take = take
        self._turn = 0
        self._connections = 0
        self._stopped = False
        self._failure: PenstockError | None = None
        self._wake = asyncio.Event()
        self._subscription: Subscription | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Make the consumers and begin. Raises StreamError or Unavailable."""
        await asyncio.gather(*(self._ensure(pull) for pull in self._pulls))
        self._connections = self._bus.connections
        inbox = self._bus.nc.new_inbox()
        self._subscription = await self._bus.nc.receive(f"{inbox}.*", self._on_message)
        self._inbox = inbox
        self._bus.listeners.add(self._wake.set)
        self._task = asyncio.create_task(self._run(), name=f"lanes-{self._stream}")

    async def stop(self) -> None:
        """Take nothing more; what still arrives is given back."""
        self._stopped = True
        self._bus.listeners.discard(self._wake.set)
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        subscription, self._subscription = self._subscription, None
        if subscription and self._bus.nc.is_connected:
            await subscription.drain()  # type: ignore[no-untyped-call]

    def done(self) -> None:
        """One message has left the hand."""
        self.in_hand -= 1
        self._wake.set()

    def problem(self) -> str | None:
        """Why no work is taken, or None."""
        if self._task and self._task.done() and not self._stopped:
            return "it stopped taking work; see the log"
        return f"it cannot take work: {self._failure}" if self._failure else None

    async def _ensure(self, pull: _Pull) -> None:
        lane = pull.lane
        await ensure_consumer(self._bus, self._stream, lane.consumer, lane.subject, self._ack_wait)
        pull.broken = False

    # -- pulling -----------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._pull()
                # Not `wait_for`: until Python 3.12 it forgets a cancellation that comes with it.
                async with asyncio.timeout(HEARTBEAT):
                    await self._wake.wait()
            except TimeoutError:
                await self._heal()
            except Unavailable as error:
                self._failure = error
                await asyncio.sleep(HEARTBEAT)
            else:
                if self._reconnected() or any(pull.broken for pull in self._pulls):
                    await self._heal()

    async def _pull(self) -> None:
        room = self._capacity - self.in_hand - sum(pull.asked for pull in self._pulls)
        if room <= 0:
            return
        usable = [pull for pull in self._pulls if not pull.broken]
        busy = [pull for pull in usable if not pull.empty and not pull.asked]
        if busy:
            places = allot(room, [pull.lane.rank for pull in busy], self._turn)
            for pull, places_given in zip(busy, places, strict=True):
                if places_given:
                    await self._ask_at_once(pull, places_given)
        for pull in usable:
            if pull.empty and not pull.waiting:
                await self._ask_for_next(pull)

    async def _ask_at_once(self, pull: _Pull, batch: int) -> None:
        pull.asked, pull.heard = batch, asyncio.get_running_loop().time()
        await self._request(pull, _AT_ONCE, {"batch": batch, "no_wait": True})

    async def _ask_for_next(self, pull: _Pull) -> None:
        pull.waiting, pull.heard = True, asyncio.get_running_loop().time()
        wait = {
            "batch": 1,
            "expires": int(EXPIRES * NANOSECONDS),
            "idle_heartbeat": int(HEARTBEAT * NANOSECONDS),
        }
        await self._request(pull, _WAITING, wait)

    async def _request(self, pull: _Pull, kind: str, request: dict[str, Any]) -> None:
        await self._bus.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{pull.lane.consumer}",
            msgspec.json.encode(request),
            reply=f"{self._inbox}.{kind}{self._pulls.index(pull)}",
        )

    # -- healing -----------------------------------------------------------------------------

    def _reconnected(self) -> bool:
        return self._connections != self._bus.connections

    async def _heal(self) -> None:
        """Forget what was lost with a connection or fell silent; make lost consumers anew."""
        reconnected = self._reconnected()
        self._connections = self._bus.connections
        silent_since = asyncio.get_running_loop().time() - SILENCE
        for pull in self._pulls:
            expected = pull.asked or pull.waiting
            if expected and (reconnected or pull.heard < silent_since):
                pull.broken = not reconnected
                pull.forget()
        try:
            for pull in [pull for pull in self._pulls if pull.broken]:
                await self._ensure(pull)
        except PenstockError as error:
            log.warning("cannot take work from %s yet: %s", self._stream, error)
            self._failure = error
            await asyncio.sleep(HEARTBEAT)
        else:
            self._failure = None

    # -- arriving ----------------------------------------------------------------------------

    async def _on_message(self, msg: Msg) -> None:
        # What is to be acknowledged is no status: its headers are nobody's business here.
        if not msg.reply and (status := status_of(msg)) is not None:
            self._on_status(msg.subject, status)
            return
        item = delivery(msg.reply)
        pull = self._by_consumer[item.consumer]
        pull.delivered()
        pull.heard = asyncio.get_running_loop().time()
        if self._stopped or self.in_hand >= self._capacity:
            await self._bus.nc.publish(msg.reply, NAK)
            return
        self.in_hand += 1
        self._turn += 1
        if not pull.asked:
            self._wake.set()
        await self._take(msg, item)

    def _on_status(self, subject: str, status: str) -> None:
        kind, index = subject[len(self._inbox) + 1], subject[len(self._inbox) + 2 :]
        pull = self._pulls[int(index)]
        pull.heard = asyncio.get_running_loop().time()
        if status == "100":
            return
        if status in ("404", "408"):
            pull.ended(kind)
        else:  # the consumer is gone, or has a new leader
            pull.forget()
            pull.broken = True
        self._wake.set()
