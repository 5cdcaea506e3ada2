"""Puts back into a work queue what its server has lost sight of. Never handles it.

A nats-server that was killed may come back with a consumer that takes a message for acknowledged
which nobody acknowledged (https://github.com/nats-io/nats-server/issues/5727): it is stored, and
never delivered. Where what is done is removed at once, such a message is known by its place: it
stands where its consumer has everything behind it. For a stream that is cleared later see
`clearing`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from penstock.contracts.subjects import MSG_ID, REPLY
from penstock.infra.bus import Bus, Stored
from penstock.infra.consuming.consumers import consumers_of
from penstock.infra.consuming.removal import remove_message
from penstock.infra.repeated import AfterConnecting, Repeated

log = logging.getLogger(__name__)

LOOK, SOON = 10.0, 2.0  # seconds between two looks, and between the first after connecting
SLOTS = 16  # messages that are put back at a time
AT_ONCE = 100  # messages that one look finds of a consumer; the others are found later
Instead = Callable[[Stored], Awaitable[bool]]


def stranded(
    bus: Bus,
    stream: str,
    consumer: str | None = None,
    *,
    instead: Instead | None = None,
    unless_cleared: bool = False,
    every: float = LOOK,
    soon: float = SOON,
) -> Repeated:
    """A part of the service that looks after the consumers of one stream: `consumer`, or all.

    It looks `every` so many seconds, and `soon` after connecting, when the server may be back from
    a kill.
    `instead` may see to a message in another way than to put it back, and tells whether it did. It
    may be asked again about the same one. With `unless_cleared` nothing is done where the stream
    is no work queue of its server: then `clearing` looks after it.
    """
    look = Stranded(bus, stream, consumer, instead, unless_cleared=unless_cleared).look
    name = f"search for lost messages of {stream}"
    return AfterConnecting(name, look, bus=bus, every=every, soon=soon)


class Stranded:
    """Looks for stranded messages of one stream, those of `consumer` or of all.

    A message is put back when two looks have found it, for what is acknowledged at this moment is
    removed a moment later. It may be handled twice, as any message. Several instances may look.
    """

    def __init__(
        self,
        bus: Bus,
        stream: str,
        consumer: str | None = None,
        instead: Instead | None = None,
        *,
        unless_cleared: bool = False,
    ) -> None:
        self._bus = bus
        self._stream = stream
        self._consumer = consumer
        self._unless_cleared = unless_cleared
        self._put_back = PuttingBack(bus, stream, instead)
        self._seen: set[int] = set()

    async def look(self) -> None:
        """Look once. Raises PenstockError when the server cannot be asked now."""
        if self._unless_cleared and not await self._is_queue():
            return
        found = await self._found()
        again = [message for message in found if message.sequence in self._seen]
        self._seen = {message.sequence for message in found}
        # Together: each takes some round trips, and there may be a worker's hand full of them.
        await asyncio.gather(*map(self._put_back, again))

    async def _is_queue(self) -> bool:
        info = await self._bus.api(f"STREAM.INFO.{self._stream}")
        return bool(info["config"]["retention"] == "workqueue")

    async def _found(self) -> list[Stored]:
        return [
            message
            for consumer in await consumers_of(self._bus, self._stream)
            if self._consumer in (None, consumer["name"])
            for message in await self._behind(consumer)
        ]

    async def _behind(self, consumer: dict[str, Any]) -> list[Stored]:
        """What is stored where the consumer takes everything for acknowledged."""
        subject = consumer["config"].get("filter_subject") or ">"
        floor = consumer["ack_floor"]["stream_seq"]
        request = {"seq": 1, "next_by_subj": subject, "batch": AT_ONCE}
        found = await self._bus.direct_get(self._stream, request)
        return [message for message in found if message.sequence <= floor]


class PuttingBack:
    """Puts a message behind the others in its stream; `instead` may see to it in another way."""

    def __init__(self, bus: Bus, stream: str, instead: Instead | None) -> None:
        self._bus = bus
        self._stream = stream
        self._instead = instead
        self._slots = asyncio.Semaphore(SLOTS)

    async def __call__(self, message: Stored) -> None:
        """Put it back, and remove it from its place. Raises PenstockError: do it again then."""
        async with self._slots:
            log.warning("%s: the server lost sight of %s", self._stream, message.subject)
            if self._instead is None or not await self._instead(message):
                await self._publish(message)
            await remove_message(self._bus, self._stream, message.sequence)

    async def _publish(self, message: Stored) -> None:
        kept = {name: message.headers[name] for name in (REPLY,) if name in message.headers}
        # By its place: several instances put it back once, and once more if it is lost again.
        headers = {**kept, MSG_ID: f"stranded:{self._stream}:{message.sequence}"}
        await self._bus.publish_acked(message.subject, message.data, headers)
