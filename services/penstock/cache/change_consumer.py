"""Takes the application's changes off their stream and has their tags invalidated.

A change is acknowledged only after its events are stored, or after it became a dead letter.
Several instances share the changes. Never decides what a change concerns.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import NotFoundError
from opentelemetry.trace import SpanKind

from penstock.cache.domain import invalidations
from penstock.contracts.cache import SERVICE
from penstock.contracts.changes import EntityChanged
from penstock.contracts.envelope import Envelope, decode, unwrap
from penstock.contracts.errors import Conflict, InvalidMessage, Unavailable
from penstock.infra.bus import Bus
from penstock.infra.dead_letters import bury
from penstock.infra.tracing import message_span

log = logging.getLogger(__name__)

NAME = "cache-changes"
AT_ONCE = 256  # changes in hand at a time
ACK_WAIT = 30.0  # seconds until a change is given to another instance
RETRY = 1.0  # seconds until a change is delivered again after its events could not be stored
TRIES = 5  # deliveries of a change that raises something unforeseen
CHECK = 5.0  # seconds between two looks whether the consumer is still there

Handle = Callable[[Envelope], Awaitable[object]]


class ChangeConsumer:
    """A part of the cache service, from `start` to `stop`."""

    def __init__(self, bus: Bus, handle: Handle) -> None:
        self._bus = bus
        self._handle = handle
        self._stream = bus.subjects.stream("changes")
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscription: JetStreamContext.PushSubscription | None = None
        self._watch: asyncio.Task[None] | None = None
        self._problem: str | None = None

    async def start(self) -> None:
        """Take changes, also those published while no instance ran."""
        await self._subscribe()
        self._watch = asyncio.create_task(self._keep_subscribed(), name="cache-changes-watch")

    async def stop(self) -> None:
        """Finish the changes in hand; the others wait for the next instance."""
        if self._watch:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        if self._subscription and self._bus.nc.is_connected:
            try:
                await self._subscription.drain()  # type: ignore[no-untyped-call]
            except NatsError as error:
                log.warning("changes already sent here come again: %s", error)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def problem(self) -> str | None:
        """Why changes are not taken, or None."""
        return self._problem

    async def _subscribe(self) -> None:
        self._subscription = await self._bus.js.subscribe(
            f"{self._bus.subjects.prefix}.change.>",
            queue=NAME,
            stream=self._stream,
            cb=self._take,
            manual_ack=True,
            config=ConsumerConfig(
                ack_policy=AckPolicy.EXPLICIT, ack_wait=ACK_WAIT, max_ack_pending=AT_ONCE
            ),
            pending_msgs_limit=4 * AT_ONCE,
        )

    async def _keep_subscribed(self) -> None:
        """A consumer that somebody deleted falls silent without a word: look, and make it anew."""
        while True:
            await asyncio.sleep(CHECK)
            try:
                await self._bus.js.consumer_info(self._stream, NAME)
            except NotFoundError:
                log.warning("the consumer %s was deleted and is made anew", NAME)
                await self._resubscribe()
            except (NatsError, TimeoutError) as error:
                self._problem = f"its consumer of changes does not answer ({type(error).__name__})"
            else:
                self._problem = None

    async def _resubscribe(self) -> None:
        try:
            if self._subscription:
                await self._subscription.unsubscribe()
            await self._subscribe()
        except (NatsError, TimeoutError) as error:
            self._problem = f"its consumer of changes cannot be made anew: {error}"

    async def _take(self, msg: Msg) -> None:
        # The server gives no more than AT_ONCE without acknowledgement, which bounds the tasks.
        task = asyncio.create_task(self._apply(msg))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _apply(self, msg: Msg) -> None:
        try:
            envelope, change = _decoded(msg.data)
            await self._invalidate(msg, envelope, change)
        except InvalidMessage as error:
            await self._bury(msg, error)
        except (Unavailable, Conflict) as error:
            log.warning("cache: the change at %s waits: %s", msg.subject, error)
            await msg.nak(delay=RETRY)
        except Exception as error:
            log.exception("cache: the change at %s failed", msg.subject)
            if msg.metadata.num_delivered < TRIES:
                await msg.nak(delay=RETRY * msg.metadata.num_delivered)
            else:
                await self._bury(msg, error)
        else:
            await msg.ack()

    async def _invalidate(self, msg: Msg, envelope: Envelope, change: EntityChanged) -> None:
        commands = invalidations(envelope, change, msg.metadata.sequence.stream)
        parent, id = envelope.traceparent, envelope.id
        with message_span("process", msg.subject, kind=SpanKind.CONSUMER, parent=parent, id=id):
            outcomes = await asyncio.gather(*map(self._handle, commands), return_exceptions=True)
        for outcome in outcomes:  # raised only when all have ended: none goes on unseen
            if isinstance(outcome, BaseException):
                raise outcome

    async def _bury(self, msg: Msg, error: Exception) -> None:
        try:
            await bury(
                self._bus,
                SERVICE,
                kind="change",
                subject=msg.subject,
                body=msg.data,
                error=error,
                sequence=msg.metadata.sequence.stream,
                deliveries=msg.metadata.num_delivered,
                headers=msg.headers,
            )
        except Unavailable as unsent:
            log.warning("cache: the dead letter of %s waits: %s", msg.subject, unsent)
            await msg.nak(delay=RETRY)
        else:
            await msg.ack()


def _decoded(body: bytes) -> tuple[Envelope, EntityChanged]:
    envelope = decode(body)
    change = unwrap(envelope)
    if not isinstance(change, EntityChanged):
        raise InvalidMessage(f"{envelope.type} is not a change; publish EntityChanged.")
    return envelope, change
