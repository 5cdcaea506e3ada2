"""Puts back into a work queue what its server has lost sight of. Never handles it.

A nats-server that was killed may come back with a consumer that takes a message for acknowledged
which nobody acknowledged (https://github.com/nats-io/nats-server/issues/5727): it is stored, and
never delivered. In a stream from which what is done is removed, such a message is known by its
place: it stands where its consumer has everything behind it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from penstock.contracts.subjects import MSG_ID, REPLY
from penstock.infra.bus import Bus, Stored
from penstock.infra.repeated import AfterConnecting, Repeated

log = logging.getLogger(__name__)

LOOK, SOON = 10.0, 2.0  # seconds between two looks, and between the first after connecting
AT_ONCE = 100  # messages that one look finds of a consumer; the others are found later
Instead = Callable[[Stored], Awaitable[bool]]


def stranded(
    bus: Bus,
    stream: str,
    consumer: str | None = None,
    *,
    instead: Instead | None = None,
    every: float = LOOK,
    soon: float = SOON,
) -> Repeated:
    """A part of the service that looks after the consumers of one stream: `consumer`, or all.

    It looks `every` so many seconds, and `soon` after connecting, when the server may be back from
    a kill.
    `instead` may see to a message in another way than to put it back, and tells whether it did. It
    may be asked again about the same one.
    """
    look = Stranded(bus, stream, consumer, instead).look
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
    ) -> None:
        self._bus = bus
        self._stream = stream
        self._consumer = consumer
        self._instead = instead
        self._seen: set[int] = set()

    async def look(self) -> None:
        """Look once. Raises PenstockError when the server cannot be asked now."""
        await self._put_back(await self._found())

    async def _found(self) -> list[Stored]:
        return [
            message
            for consumer in await self._consumers()
            if self._consumer in (None, consumer["name"])
            for message in await self._behind(consumer)
        ]

    async def _consumers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            page = await self._bus.api(f"CONSUMER.LIST.{self._stream}", {"offset": len(found)})
            found += page["consumers"] or []
            if not page["consumers"] or len(found) >= page["total"]:
                return found

    async def _behind(self, consumer: dict[str, Any]) -> list[Stored]:
        """What is stored where the consumer takes everything for acknowledged."""
        subject = consumer["config"].get("filter_subject") or ">"
        floor = consumer["ack_floor"]["stream_seq"]
        request = {"seq": 1, "next_by_subj": subject, "batch": AT_ONCE}
        found = await self._bus.direct_get(self._stream, request)
        return [message for message in found if message.sequence <= floor]

    async def _put_back(self, found: list[Stored]) -> None:
        again = [message for message in found if message.sequence in self._seen]
        self._seen = {message.sequence for message in found}
        for message in again:
            log.warning("%s: the server lost sight of %s", self._stream, message.subject)
            if self._instead is None or not await self._instead(message):
                await self._publish(message)
            await self._bus.api(f"STREAM.MSG.DELETE.{self._stream}", {"seq": message.sequence})

    async def _publish(self, message: Stored) -> None:
        kept = {name: message.headers[name] for name in (REPLY,) if name in message.headers}
        # By its place: several instances put it back once, and once more if it is lost again.
        headers = {**kept, MSG_ID: f"stranded:{self._stream}:{message.sequence}"}
        await self._bus.publish_acked(message.subject, message.data, headers)
