"""Asks every service about an id, for commands that explain. Never changes anything."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable, Mapping

from penstock.contracts.answers import FlowOf, HistoryEntry, HistoryOf, Question
from penstock.contracts.errors import NotFound, Unavailable
from penstock.infra.bus import Bus
from penstock.infra.event_log import JetStreamEventLog, Recorded
from penstock.infra.sender import Sender

SEARCH = 3600.0  # seconds that reading a whole archive may take
Histories = dict[str, list[HistoryEntry]]


async def histories(
    bus: Bus, services: Iterable[str], id: str, *, archive: bool = False
) -> Histories:
    """Every event of `id` in each service that knows it; says which services do not answer.

    With `archive` those that do not know it search their whole archive.
    """
    asked = HistoryOf(id=id, archive=archive)
    return await _asked(bus, services, "history", lambda _: asked, SEARCH if archive else None)


async def flow(
    bus: Bus, services: Iterable[str], correlationid: str, seen: Mapping[str, int] | None = None
) -> list[HistoryEntry]:
    """Every event of a flow in the order of time; says which services do not answer.

    `seen` has for a service the sequence of an event that is to be among them: its view is waited
    for.
    """
    seen = seen or {}
    found = await _asked(
        bus,
        services,
        "flow",
        lambda service: FlowOf(id=correlationid, min_seq=seen.get(service, 0)),
    )
    entries = [entry for part in found.values() for entry in part]
    return sorted(entries, key=lambda entry: (entry.time, entry.service, entry.sequence))


async def _asked(
    bus: Bus,
    services: Iterable[str],
    name: str,
    question: Callable[[str], Question],
    timeout: float | None = None,
) -> Histories:
    sender = Sender(bus)

    async def ask(service: str) -> tuple[str, list[HistoryEntry]]:
        try:
            entries, _ = await sender.ask(
                service, name, question(service), list[HistoryEntry], timeout=timeout
            )
        except NotFound:
            return service, []
        except Unavailable as error:
            print(f"penstock: the part of {service} is missing: {error}", file=sys.stderr)
            return service, []
        return service, entries

    found = await asyncio.gather(*map(ask, services))
    return {service: entries for service, entries in found if entries}


async def event_of(bus: Bus, services: Iterable[str], id: str) -> tuple[str, Recorded] | None:
    """The event `id`, or the first that the command `id` caused, and its service.

    Nothing finds a message by its id alone, so that this reads each log from its start.
    """
    for service in services:
        log = JetStreamEventLog(bus, service)
        try:
            async for record in log.read():
                if id in (record.event.id, record.event.causationid):
                    return service, record
        finally:
            await log.close()
    return None
