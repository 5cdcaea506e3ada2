"""Takes a service's commands off the bus, by FastStream, and answers them.

A command is acknowledged only after everything it caused is stored, or after it became a dead
letter. Never decides: that is the decider's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from functools import cache
from time import perf_counter
from typing import Any, Protocol

import msgspec
from faststream import AckPolicy
from faststream.message import StreamMessage
from faststream.nats import JStream, NatsBroker
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from opentelemetry.trace import SpanKind

from penstock.contracts.answers import Outcome
from penstock.contracts.envelope import Envelope, decode, messages
from penstock.contracts.errors import (
    Conflict,
    InvalidMessage,
    PenstockError,
    Unavailable,
    from_problem,
)
from penstock.contracts.registry import MESSAGES
from penstock.contracts.subjects import REDRIVEN, REPLY
from penstock.infra.bus import Bus
from penstock.infra.consuming.durables import NANOSECONDS, Durable
from penstock.infra.consuming.in_hand import TAKEOVER, InHand
from penstock.infra.dead_letters.burying import bury_delivery
from penstock.infra.telemetry import COMMAND_SECONDS, COMMANDS
from penstock.infra.tracing import message_span

log = logging.getLogger(__name__)

CONCURRENT = 128  # commands of one service that an instance works on at a time
DELIVERED = 4 * CONCURRENT  # commands that its instances together have, the others stay in line
TRIES = 5  # deliveries of a command that raises something unforeseen
RETRY = 1.0  # seconds until it is delivered again


class Handle(Protocol):
    """Carries out a command; with `anew` although it was refused before."""

    def __call__(self, command: Envelope, *, anew: bool) -> Awaitable[Outcome]:
        """See `Decider.handle`."""
        ...


_encode = msgspec.json.Encoder().encode
# Finding one costs as much as counting with ten. There are few: types are those of the contracts.
_counter = cache(COMMANDS.labels)
_seconds = cache(COMMAND_SECONDS.labels)


class CommandConsumer:
    """The command subscriber of one service; several instances share the commands."""

    def __init__(self, bus: Bus, service: str, handle: Handle) -> None:
        self._bus = bus
        self._service = service
        self._handle = handle
        self._types = messages(service, "command")
        self._subject = bus.subjects.command(service, "*")
        self._name = f"{service}-commands"
        self._subscriber: Any = None
        self._slots = asyncio.Semaphore(CONCURRENT)
        self._in_hand = InHand(bus)
        self._tasks: set[asyncio.Task[None]] = set()

    def durable(self) -> Durable:
        """The consumer on the server, which must be there before `start`."""
        config = {
            "durable_name": self._name,
            "filter_subject": self._subject,
            # Not an inbox: made again, it delivers to those who were subscribed before.
            "deliver_subject": self._bus.subjects.deliveries(self._name),
            "deliver_group": self._name,
            "ack_wait": int(TAKEOVER * NANOSECONDS),
            "max_ack_pending": DELIVERED,
        }
        return Durable(self._bus, self._bus.subjects.stream("cmd"), config)

    def subscribe(self, broker: NatsBroker) -> None:
        """Add the subscriber to a broker that is yet to be started."""
        self._subscriber = broker.subscriber(
            self._subject,
            stream=JStream(self._bus.subjects.stream("cmd"), declare=False),
            queue=self._name,
            pending_msgs_limit=2 * DELIVERED,
            ack_policy=AckPolicy.MANUAL,
            decoder=_as_it_is,
            no_reply=True,
        )
        self._subscriber(self._accept)

    async def drain(self, timeout: float) -> None:
        """Take no more, and finish what was delivered or hand it back, within `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._unsubscribe()
                while self._tasks:
                    await asyncio.wait(self._tasks)
        except (TimeoutError, NatsError) as error:
            log.warning("%s: commands are handed back: %s", self._service, type(error).__name__)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _unsubscribe(self) -> None:
        # FastStream's own stop would drop what was delivered and not begun.
        if self._subscriber is not None and self._subscriber.subscription is not None:
            subscription, self._subscriber.subscription = self._subscriber.subscription, None
            await subscription.drain()

    async def _accept(self, message: Any) -> None:
        # Not FastStream's `max_workers`: it hands messages over one by one, each with its own
        # writes. Here all that came together are begun together, and share writes and wakeups.
        # The server gives no more than DELIVERED without acknowledgement, which bounds the tasks.
        task = asyncio.create_task(self._settle(message.raw_message))
        self._tasks.add(task)
        task.add_done_callback(self._let_go)

    def _let_go(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            # It could not be acknowledged; it comes again, and is known by its id then.
            log.error("%s: a command is not settled: %r", self._service, error)

    async def _settle(self, msg: Msg) -> None:
        with self._in_hand.holding(msg.reply):
            try:
                async with self._slots:
                    await self._take(msg)
            except asyncio.CancelledError:
                await msg.nak()
                raise

    async def _take(self, msg: Msg) -> None:
        started = perf_counter()
        try:
            command = self._decode(msg.data)
            outcome = await self._outcome(command, msg)
            settled = await self._answer(msg, outcome)
            kind = command.type
        except InvalidMessage as error:
            settled = await self._give_up(msg, error)
            kind, outcome = "unknown", Outcome(id="", problem=error.problem())
        except (Unavailable, Conflict) as error:
            log.warning("%s: a command waits: %s", self._service, error)
            settled = False
        except Exception as error:  # noqa: BLE001 - retried, then a dead letter
            await self._unforeseen(msg, error)
            return
        if not settled:
            await msg.nak(delay=RETRY)
            return
        await msg.ack()
        _counter(self._service, kind, "refused" if outcome.problem else "done").inc()
        _seconds(self._service).observe(perf_counter() - started)

    def _decode(self, body: bytes) -> Envelope:
        command = decode(body)
        if command.type not in MESSAGES.readers:
            raise MESSAGES.unknown(command.type)
        if command.type not in self._types:
            raise InvalidMessage(
                f"{self._service} has no command {command.type!r}; it has "
                f"{', '.join(sorted(self._types))}.",
                path="$.type",
            )
        return command

    async def _outcome(self, command: Envelope, msg: Msg) -> Outcome:
        parent, id = command.traceparent, command.id
        with message_span("process", msg.subject, kind=SpanKind.CONSUMER, parent=parent, id=id):
            try:
                return await self._handle(command, anew=REDRIVEN in (msg.headers or {}))
            except Unavailable:
                raise
            except Conflict as error:
                # It says nothing of the command: where nobody hears of it, it comes again.
                if REPLY not in (msg.headers or {}):
                    raise
                return Outcome(id=command.id, problem=error.problem())
            except PenstockError as error:
                return Outcome(id=command.id, problem=error.problem())

    async def _answer(self, msg: Msg, outcome: Outcome) -> bool:
        """Tell whoever waits; a refusal that nobody waits for is a dead letter."""
        if await self._reply(msg, outcome) or outcome.problem is None:
            return True
        return await self._bury(msg, from_problem(outcome.problem))

    async def _reply(self, msg: Msg, outcome: Outcome) -> bool:
        reply = (msg.headers or {}).get(REPLY)
        if reply:
            await self._bus.nc.publish(reply, _encode(outcome))
        return bool(reply)

    async def _give_up(self, msg: Msg, error: Exception) -> bool:
        """What cannot be decoded or handled is kept, whether somebody waits or not."""
        refusal = (
            error
            if isinstance(error, PenstockError)
            else PenstockError(f"{type(error).__name__}: {error}")
        )
        await self._reply(msg, Outcome(id="", problem=refusal.problem()))
        return await self._bury(msg, error)

    async def _unforeseen(self, msg: Msg, error: Exception) -> None:
        log.exception("%s: a command on %s failed", self._service, msg.subject)
        if msg.metadata.num_delivered < TRIES:
            await msg.nak(delay=RETRY * msg.metadata.num_delivered)
            return
        if await self._give_up(msg, error):
            await msg.ack()
            COMMANDS.labels(self._service, "unknown", "dead").inc()

    async def _bury(self, msg: Msg, error: Exception) -> bool:
        try:
            await bury_delivery(self._bus, self._service, msg, error, kind="command")
        except Unavailable:
            log.warning("%s: the dead letter of %s waits", self._service, msg.subject)
            return False
        return True


async def _as_it_is(message: StreamMessage[Any]) -> StreamMessage[Any]:
    return message
