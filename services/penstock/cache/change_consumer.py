"""Takes the application's changes off their stream and has their tags invalidated.

A change is acknowledged only after its events are stored, or after it became a dead letter.
Several instances share the changes. Never decides what a change concerns.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from opentelemetry.trace import SpanKind

from penstock.cache.domain import invalidations
from penstock.contracts.cache import SERVICE
from penstock.contracts.changes import EntityChanged
from penstock.contracts.envelope import Envelope, decode, unwrap
from penstock.contracts.errors import Conflict, InvalidMessage, Unavailable
from penstock.infra.bus import Bus
from penstock.infra.consuming.durables import NANOSECONDS, Durable
from penstock.infra.consuming.in_hand import TAKEOVER, InHand
from penstock.infra.dead_letters.burying import bury_delivery
from penstock.infra.tracing import message_span

log = logging.getLogger(__name__)

NAME = "cache-changes"
AT_ONCE = 256  # changes in hand at a time
RETRY = 1.0  # seconds until a change is delivered again after its events could not be stored
TRIES = 5  # deliveries of a change that raises something unforeseen

Handle = Callable[[Envelope], Awaitable[object]]


class ChangeConsumer:
    """A part of the cache service, from `start` to `stop`."""

    def __init__(self, bus: Bus, handle: Handle) -> None:
        self._bus = bus
        self._handle = handle
        self._in_hand = InHand(bus)
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscription: Subscription | None = None

    def durable(self) -> Durable:
        """The consumer on the server, which must be there before this starts."""
        config = {
            "durable_name": NAME,
            "filter_subject": f"{self._bus.subjects.prefix}.change.>",
            # Not an inbox: made again, it delivers to those who were subscribed before.
            "deliver_subject": self._bus.subjects.deliveries(NAME),
            "deliver_group": NAME,
            "ack_wait": int(TAKEOVER * NANOSECONDS),
            "max_ack_pending": AT_ONCE,
        }
        return Durable(self._bus, self._bus.subjects.stream("changes"), config)

    async def start(self) -> None:
        """Take changes, also those published while no instance ran."""
        self._subscription = await self._bus.nc.subscribe(
            self._bus.subjects.deliveries(NAME),
            queue=NAME,
            cb=self._take,
            pending_msgs_limit=4 * AT_ONCE,
        )

    async def stop(self) -> None:
        """Finish the changes in hand; the others wait for the next instance."""
        if self._subscription and self._bus.nc.is_connected:
            try:
                await self._subscription.drain()  # type: ignore[no-untyped-call]
            except NatsError as error:
                log.warning("changes already sent here come again: %s", error)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def problem(self) -> str | None:
        """See `Part.problem`; its consumer is the watchdog's."""
        return None

    async def _take(self, msg: Msg) -> None:
        # The server gives no more than AT_ONCE without acknowledgement, which bounds the tasks.
        task = asyncio.create_task(self._keep_and_apply(msg))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep_and_apply(self, msg: Msg) -> None:
        with self._in_hand.holding(msg.reply):
            await self._apply(msg)

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
            await bury_delivery(self._bus, SERVICE, msg, error, kind="change")
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
