"""Works off a service's own events, each at least once: what a crash interrupts is done again.

A durable consumer that all instances of the service share. An event is acknowledged only once its
work is done, and kept from the others while it goes on. Events of one aggregate are handled one
after the other and in their order, whichever instances take them; one that fails holds back those
behind it, and no other aggregate. Once it is given up as a dead letter those behind it go on:
`handle` looks at what the log says now, so a later event does not stand on the work of an earlier
one, and an aggregate shall not stand still for good where a letter tells what is to be done again.
Never folds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.client import JetStreamContext
from opentelemetry.trace import SpanKind

from penstock.contracts.control import Redo
from penstock.contracts.envelope import Envelope, decode
from penstock.contracts.errors import Conflict, InvalidMessage, NotFound, PenstockError, Unavailable
from penstock.infra.bus import Bus, StreamError
from penstock.infra.consuming.durables import NANOSECONDS, Durable
from penstock.infra.consuming.event_order import EventOrder
from penstock.infra.consuming.in_hand import TAKEOVER, InHand
from penstock.infra.control import Step, Verb
from penstock.infra.dead_letters.burying import bury_delivery
from penstock.infra.keyed_locks import KeyedLocks
from penstock.infra.tracing import message_span

log = logging.getLogger(__name__)

LONGEST = 900.0  # seconds that work on one event may take
# Seconds that one pull stays open. One that was lost with the server is noticed after them.
PULL = 1.0
TRIES = 5  # deliveries of an event whose work raises something unforeseen
RETRY = 1.0  # seconds until it is delivered again, times the deliveries so far
LONGEST_RETRY = 30.0
LOOK = 0.1  # seconds between two looks whether it is an event's turn
PATIENCE = 10.0  # seconds until one that waits for its turn is given back, for a while
WAITING = 200  # events of one instance that wait for their turn
MOST_WAITING = 10_000  # events that all instances have in hand, or that wait to come again
STALLED = 300.0  # seconds in which events may wait and none be finished

Handle = Callable[[Envelope], Awaitable[None]]


class EventConsumer:
    """Calls `handle` with each event of `service`, at most `at_once` at a time; a `Part`.

    `handle` must be idempotent. If it raises Unavailable or Conflict the event comes again; after
    anything else it is tried TRIES times by an instance, and then becomes a dead letter, at once if
    it is InvalidMessage. `redo` has the work of such an event done again. `name` is the durable
    consumer's: another name begins with the first event. `grace`: seconds to finish when stopped,
    after which what is in hand is left to the next instance.
    """

    def __init__(
        self,
        bus: Bus,
        service: str,
        name: str,
        handle: Handle,
        *,
        at_once: int,
        grace: float,
        takeover: float = TAKEOVER,
    ) -> None:
        self._bus = bus
        self._service = service
        self._stream = bus.subjects.event_stream(service)
        self._name = name
        self._handle = handle
        self._at_once = at_once
        self._grace = grace
        self._room = asyncio.Semaphore(at_once + WAITING)
        self._takeover = takeover
        self._in_hand = InHand(bus, takeover, longest=LONGEST)
        self._slots = asyncio.Semaphore(at_once)
        self._locks = KeyedLocks()
        self._order = EventOrder(bus, self._stream, name)
        self._tasks: set[asyncio.Task[None]] = set()
        self._puller: asyncio.Task[None] | None = None
        self.durable = Durable(
            bus,
            self._stream,
            {
                "durable_name": name,
                "filter_subject": bus.subjects.events(service),
                "ack_wait": int(self._takeover * NANOSECONDS),
                "max_ack_pending": MOST_WAITING,
            },
        )
        self._stopping = False
        self._problem: str | None = None

    async def start(self) -> None:
        """Make the consumer if it is not there, and begin. Raises StreamError or Unavailable."""
        await self.durable.ensure()
        self._puller = asyncio.create_task(self._run(), name=f"consume-{self._name}")

    async def stop(self) -> None:
        """Take no more, finish what is in hand or hand it back."""
        self._stopping = True
        if self._puller:
            self._puller.cancel()
            await asyncio.gather(self._puller, return_exceptions=True)
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=self._grace)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def problem(self) -> str | None:
        """See `Part.problem`."""
        return self._problem

    @property
    def verbs(self) -> dict[str, Verb]:
        """`redo-<name>`, for an operator to ask of one instance."""
        return {f"redo-{self._name}": Verb(Redo, self._redo)}

    async def _redo(self, asked: Redo) -> AsyncIterator[Step]:
        found = await self._bus.direct_get(self._stream, {"seq": asked.sequence})
        if not found:
            raise NotFound(f"There is no event {asked.sequence} of {self._service} any more.")
        async with self._locks.of(found[0].subject), self._slots:
            yield Step()
            await self._process(found[0].subject, found[0].data)

    async def _run(self) -> None:
        # The client library waits by `wait_for`, which until Python 3.12 forgets a cancellation
        # that comes together with a message: so these loops look for themselves.
        while not self._stopping:
            try:
                await self.durable.ensure()
                await self._pull_all()
            except (PenstockError, NatsError) as error:
                self._problem = (
                    f"{self._name} cannot take events: {str(error) or type(error).__name__}"
                )
                log.warning("%s: %s", self._service, self._problem)
                await asyncio.sleep(RETRY)

    async def _pull_all(self) -> None:
        subscription = await self._bus.js.pull_subscribe_bind(self._name, self._stream)
        try:
            while not self._stopping:
                await self._pull_one(subscription)
        finally:
            if not self._bus.nc.is_closed:
                await subscription.unsubscribe()

    async def _pull_one(self, subscription: JetStreamContext.PullSubscription) -> None:
        await self._room.acquire()
        try:
            msg = await self._next(subscription)
        except BaseException:
            self._room.release()
            raise
        if msg is None:
            self._room.release()
        else:
            self._begin(msg)

    async def _next(self, subscription: JetStreamContext.PullSubscription) -> Msg | None:
        try:
            [msg] = await subscription.fetch(1, timeout=PULL)
        except NatsTimeout:
            # A consumer that somebody deleted is as silent as one without news.
            await self.durable.ensure()
            msg = None
        self._problem = None
        return msg

    def _begin(self, msg: Msg) -> None:
        task = asyncio.create_task(self._take(msg), name=f"{self._name}-event")
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._room.release()

    async def _take(self, msg: Msg) -> None:
        try:
            with self._in_hand.holding(msg.reply):
                if await self._turn(msg):
                    await self._take_in_turn(msg)
                else:
                    await self._again(msg)
        except asyncio.CancelledError:
            await msg.nak()
            raise
        except (Unavailable, Conflict, StreamError) as error:
            log.warning("%s: an event waits: %s", self._name, error)
            await self._again(msg)
        except NatsError as error:
            # Neither ack nor nak can be sent: the server gives the event out again by itself.
            log.warning("%s: an event comes again: %s", self._name, type(error).__name__)

    async def _turn(self, msg: Msg) -> bool:
        """Wait until the event before it, of its aggregate, is done with; whether it is."""
        before = await self._order.before(msg.subject, msg.metadata.sequence.stream)
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while not await self._order.is_done(msg.subject, before):
            late = asyncio.get_running_loop().time() > deadline
            # Those of one aggregate must not take all the room: half of it is for others.
            crowded = len(self._tasks) > self._at_once + WAITING // 2
            if self._stopping or late or crowded:
                return False
            await asyncio.sleep(LOOK)
        return True

    async def _take_in_turn(self, msg: Msg) -> None:
        sequence = msg.metadata.sequence.stream
        async with self._locks.of(msg.subject), self._slots:
            if self._stopping:
                await msg.nak()
                return
            if await self._done_or_buried(msg, sequence):
                await msg.ack()
                self._order.done(msg.subject, sequence)

    async def _done_or_buried(self, msg: Msg, sequence: int) -> bool:
        try:
            await self._process(msg.subject, msg.data)
        except (Unavailable, Conflict, NatsError):
            raise
        except Exception as error:
            log.exception("%s: work on %s failed", self._name, msg.subject)
            given_up = isinstance(error, InvalidMessage) or self._order.failed(sequence) >= TRIES
            if not given_up:
                await self._again(msg)
                return False
            await self._bury(msg, error)
        return True

    async def _process(self, subject: str, body: bytes) -> None:
        event = decode(body)
        with message_span(
            "process", subject, kind=SpanKind.CONSUMER, parent=event.traceparent, id=event.id
        ):
            await self._handle(event)

    async def _bury(self, msg: Msg, error: Exception) -> None:
        await bury_delivery(self._bus, self._service, msg, error, kind="work", consumer=self._name)

    async def _again(self, msg: Msg) -> None:
        await msg.nak(delay=min(RETRY * msg.metadata.num_delivered, LONGEST_RETRY))
