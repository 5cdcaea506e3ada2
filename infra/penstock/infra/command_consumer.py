"""Takes a service's commands off the bus, by FastStream, and answers them.

A command is acknowledged only after everything it caused is stored, or after it became a dead
letter. Never decides: that is the decider's.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from time import perf_counter
from typing import Any, Protocol

import msgspec
from faststream import AckPolicy
from faststream.message import StreamMessage
from faststream.nats import ConsumerConfig, JStream, NatsBroker
from nats.aio.msg import Msg
from opentelemetry.trace import SpanKind

from penstock.contracts.answers import Outcome
from penstock.contracts.envelope import Envelope, decode, messages
from penstock.contracts.errors import InvalidMessage, PenstockError, Unavailable, from_problem
from penstock.contracts.registry import MESSAGES
from penstock.contracts.subjects import REDRIVEN, REPLY
from penstock.infra.bus import Bus
from penstock.infra.dead_letters import bury
from penstock.infra.telemetry import COMMAND_SECONDS, COMMANDS
from penstock.infra.tracing import message_span

log = logging.getLogger(__name__)

CONCURRENT = 128  # commands of one service in hand at a time
ACK_WAIT = 30.0  # seconds until a command is given to another instance
TRIES = 5  # deliveries of a command that raises something unforeseen
RETRY = 1.0  # seconds until it is delivered again


class Handle(Protocol):
    """Carries out a command; with `anew` although it was refused before."""

    def __call__(self, command: Envelope, *, anew: bool) -> Awaitable[Outcome]:
        """See `Decider.handle`."""
        ...


_encode = msgspec.json.Encoder().encode


class CommandConsumer:
    """The command subscriber of one service; several instances share the commands."""

    def __init__(self, bus: Bus, service: str, handle: Handle) -> None:
        self._bus = bus
        self._service = service
        self._handle = handle
        self._types = messages(service, "command")

    def subscribe(self, broker: NatsBroker) -> None:
        """Add the subscriber to a broker that is yet to be started."""
        name = f"{self._service}-commands"
        subscriber = broker.subscriber(
            self._bus.subjects.command(self._service, "*"),
            stream=JStream(self._bus.subjects.stream("cmd"), declare=False),
            queue=name,
            config=ConsumerConfig(ack_wait=ACK_WAIT, max_ack_pending=4 * CONCURRENT),
            pending_msgs_limit=8 * CONCURRENT,
            max_workers=CONCURRENT,
            ack_policy=AckPolicy.MANUAL,
            decoder=_as_it_is,
            no_reply=True,
        )
        subscriber(self._take)

    async def _take(self, message: Any) -> None:
        msg: Msg = message.raw_message
        started = perf_counter()
        try:
            command = self._decode(msg.data)
            outcome = await self._outcome(command, msg)
            settled = await self._answer(msg, outcome)
            kind = command.type
        except InvalidMessage as error:
            settled = await self._give_up(msg, error)
            kind, outcome = "unknown", Outcome(id="", problem=error.problem())
        except Unavailable as error:
            log.warning("%s: a command waits: %s", self._service, error)
            settled = False
        except Exception as error:  # noqa: BLE001 - retried, then a dead letter
            await self._unforeseen(msg, error)
            return
        if not settled:
            await msg.nak(delay=RETRY)
            return
        await msg.ack()
        COMMANDS.labels(self._service, kind, "refused" if outcome.problem else "done").inc()
        COMMAND_SECONDS.labels(self._service).observe(perf_counter() - started)

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
            await bury(
                self._bus,
                self._service,
                kind="command",
                subject=msg.subject,
                body=msg.data,
                error=error,
                sequence=msg.metadata.sequence.stream,
                deliveries=msg.metadata.num_delivered,
                headers=msg.headers,
            )
        except Unavailable:
            log.warning("%s: the dead letter of %s waits", self._service, msg.subject)
            return False
        return True


async def _as_it_is(message: StreamMessage[Any]) -> StreamMessage[Any]:
    return message
