"""Takes a service's commands off the bus, by FastStream.

A command is acknowledged only after everything it caused is stored, or after it became a dead
letter. Never carries one out.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from faststream import AckPolicy
from faststream.message import StreamMessage
from faststream.nats import JStream, NatsBroker
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from penstock.infra.bus import Bus
from penstock.infra.consuming.carrying_out import CONCURRENT, CarryingOut, Delivered, Handle
from penstock.infra.consuming.consumers import delivery
from penstock.infra.consuming.done_commands import DoneCommands
from penstock.infra.consuming.durables import NANOSECONDS, Durable
from penstock.infra.consuming.in_hand import TAKEOVER, InHand

log = logging.getLogger(__name__)

DELIVERED = 4 * CONCURRENT  # commands that its instances together have, the others stay in line


class CommandConsumer:
    """The command subscriber of one service; several instances share the commands."""

    def __init__(self, bus: Bus, service: str, handle: Handle) -> None:
        self._bus = bus
        self._service = service
        self.name = f"{service}-commands"
        self._carry_out = CarryingOut(bus, service, handle)
        self.done = DoneCommands(self._carry_out)
        self._subject = bus.subjects.commands(service)
        self._subscriber: Any = None
        self._in_hand = InHand(bus)
        self._tasks: set[asyncio.Task[None]] = set()

    def durable(self) -> Durable:
        """The consumer on the server, which must be there before `start`."""
        config = {
            "durable_name": self.name,
            "filter_subject": self._subject,
            # Not an inbox: made again, it delivers to those who were subscribed before.
            "deliver_subject": self._bus.subjects.deliveries(self.name),
            "deliver_group": self.name,
            "ack_wait": int(TAKEOVER * NANOSECONDS),
            "max_ack_pending": DELIVERED,
        }
        return Durable(self._bus, self._bus.subjects.stream("cmd"), config)

    def subscribe(self, broker: NatsBroker) -> None:
        """Add the subscriber to a broker that is yet to be started."""
        self._subscriber = broker.subscriber(
            self._subject,
            stream=JStream(self._bus.subjects.stream("cmd"), declare=False),
            queue=self.name,
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
                of = delivery(msg.reply)
                again = await self._carry_out(
                    Delivered(of.sequence, msg.subject, msg.data, msg.headers or {}, of.count)
                )
            except asyncio.CancelledError:
                await msg.nak()
                raise
            if again is not None:
                await msg.nak(delay=again)
                return
            self.done.add(of.sequence, msg.data)
            await msg.ack()


async def _as_it_is(message: StreamMessage[Any]) -> StreamMessage[Any]:
    return message
