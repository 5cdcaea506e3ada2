"""Carries out the commands of one service, and answers them. Never takes or acknowledges one.

A command may be carried out again at any time, by any instance: it is known by its id, and its dead
letter by its place in the stream.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from functools import cache
from time import perf_counter
from typing import Protocol

import msgspec
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
from penstock.infra.dead_letters.burying import bury
from penstock.infra.telemetry import COMMAND_SECONDS, COMMANDS
from penstock.infra.tracing import message_span

log = logging.getLogger(__name__)

CONCURRENT = 128  # commands of one service that an instance works on at a time
TRIES = 5  # deliveries of a command that raises something unforeseen
RETRY = 1.0  # seconds until it is delivered again


class Delivered(msgspec.Struct, frozen=True):
    """A command as it stands in the stream, delivered for the `count`-th time."""

    sequence: int
    subject: str
    data: bytes
    headers: Mapping[str, str]
    count: int = 1


class Handle(Protocol):
    """Carries out a command; with `anew` although it was refused before."""

    def __call__(self, command: Envelope, *, anew: bool) -> Awaitable[Outcome]:
        """See `Decider.handle`."""
        ...


_encode = msgspec.json.Encoder().encode
# Finding one costs as much as counting with ten. There are few: types are those of the contracts.
_counter = cache(COMMANDS.labels)
_seconds = cache(COMMAND_SECONDS.labels)


class CarryingOut:
    """Of one service, at most CONCURRENT at a time."""

    def __init__(self, bus: Bus, service: str, handle: Handle) -> None:
        self._bus = bus
        self._service = service
        self._handle = handle
        self._types = messages(service, "command")
        self._slots = asyncio.Semaphore(CONCURRENT)

    async def __call__(self, message: Delivered) -> float | None:
        """Carry it out.

        None once everything it caused is stored, or its dead letter; else the seconds after which
        it should be tried again. Raises NatsError if its answer cannot be sent.
        """
        async with self._slots:
            started = perf_counter()
            try:
                settled, kind, outcome = await self._settle(message)
            except (Unavailable, Conflict) as error:
                log.warning("%s: a command waits: %s", self._service, error)
                return RETRY
            except Exception as error:  # noqa: BLE001 - retried, then a dead letter
                return await self._unforeseen(message, error)
            if not settled:
                return RETRY
            _counter(self._service, kind, "refused" if outcome.problem else "done").inc()
            _seconds(self._service).observe(perf_counter() - started)
            return None

    async def _settle(self, message: Delivered) -> tuple[bool, str, Outcome]:
        """Whether it is, the command's type, and what became of it."""
        try:
            command = self._decode(message.data)
            outcome = await self._outcome(command, message)
            return await self._answer(message, outcome), command.type, outcome
        except InvalidMessage as error:
            outcome = Outcome(id="", problem=error.problem())
            return await self._give_up(message, error), "unknown", outcome

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

    async def _outcome(self, command: Envelope, message: Delivered) -> Outcome:
        parent, id = command.traceparent, command.id
        with message_span("process", message.subject, kind=SpanKind.CONSUMER, parent=parent, id=id):
            try:
                return await self._handle(command, anew=REDRIVEN in message.headers)
            except Unavailable:
                raise
            except Conflict as error:
                # It says nothing of the command: where nobody hears of it, it comes again.
                if REPLY not in message.headers:
                    raise
                return Outcome(id=command.id, problem=error.problem())
            except PenstockError as error:
                return Outcome(id=command.id, problem=error.problem())

    async def _answer(self, message: Delivered, outcome: Outcome) -> bool:
        """Tell whoever waits; a refusal that nobody waits for is a dead letter."""
        if await self._reply(message, outcome) or outcome.problem is None:
            return True
        return await self._bury(message, from_problem(outcome.problem))

    async def _reply(self, message: Delivered, outcome: Outcome) -> bool:
        reply = message.headers.get(REPLY)
        if reply:
            await self._bus.nc.publish(reply, _encode(outcome))
        return bool(reply)

    async def _give_up(self, message: Delivered, error: Exception) -> bool:
        """What cannot be decoded or handled is kept, whether somebody waits or not."""
        refusal = (
            error
            if isinstance(error, PenstockError)
            else PenstockError(f"{type(error).__name__}: {error}")
        )
        await self._reply(message, Outcome(id="", problem=refusal.problem()))
        return await self._bury(message, error)

    async def _unforeseen(self, message: Delivered, error: Exception) -> float | None:
        log.exception("%s: a command on %s failed", self._service, message.subject)
        if message.count < TRIES:
            return RETRY * message.count
        if not await self._give_up(message, error):
            return RETRY
        COMMANDS.labels(self._service, "unknown", "dead").inc()
        return None

    async def _bury(self, message: Delivered, error: Exception) -> bool:
        try:
            await bury(
                self._bus,
                self._service,
                kind="command",
                subject=message.subject,
                body=message.data,
                error=error,
                sequence=message.sequence,
                deliveries=message.count,
                headers=message.headers,
            )
        except Unavailable:
            log.warning("%s: the dead letter of %s waits", self._service, message.subject)
            return False
        return True
