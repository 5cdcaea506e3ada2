"""Finds exports whose request was taken for done and is not, and has them carried out.

A nats-server that was killed may come back with a consumer that takes a message for acknowledged
which nobody acknowledged (https://github.com/nats-io/nats-server/issues/5727). Never renders.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import apsw

from penstock.contracts.envelope import Envelope
from penstock.exports.domain import State
from penstock.infra.service import Service

log = logging.getLogger(__name__)

AT_ONCE = 20  # exports that one look finds; the others are found later


class Overdue:
    """Looks at the exports that are not over though `consumer` has everything up to them done.

    One is carried out when two looks have found it, for the view may be a moment behind. It may
    be carried out twice, as any. Several instances may look.
    """

    def __init__(
        self,
        service: Service[State],
        consumer: str,
        handle: Callable[[Envelope], Awaitable[None]],
    ) -> None:
        self._service = service
        self._consumer = consumer
        self._handle = handle
        self._seen: set[str] = set()

    async def look(self) -> None:
        """Look once. Raises PenstockError when it cannot be told now, or an export has to wait."""
        bus, stream = self._service.bus, self._service.log.stream
        info = await bus.api(f"CONSUMER.INFO.{stream}.{self._consumer}")
        floor: int = info["ack_floor"]["stream_seq"]
        _, found = await self._service.model.read(_unfinished, floor)
        again = self._seen.intersection(found)
        self._seen = set(found)
        for id in again:
            log.warning("exports: the server lost sight of the request for %r", id)
            for record in (await self._service.log.load(id)).events[:1]:
                await self._handle(record.event)


def _unfinished(db: apsw.Connection, floor: int) -> list[str]:
    rows = db.execute(
        "SELECT id FROM export WHERE state IN ('pending', 'processing') AND place <= ? LIMIT ?",
        (floor, AT_ONCE),
    )
    return [id for (id,) in rows]
