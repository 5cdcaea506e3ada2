"""Asks every service about an id, for commands that explain. Never changes anything."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable

from penstock.contracts.answers import FlowOf, HistoryEntry, HistoryOf, Question
from penstock.contracts.errors import NotFound, Unavailable
from penstock.infra.bus import Bus
from penstock.infra.event_log import JetStreamEventLog
from penstock.infra.sender import Sender

Histories = dict[str, list[HistoryEntry]]


async def histories(bus: Bus, services: Iterable[str], id: str) -> Histories:
    """Every event of the aggregate `id` in each service that knows one; says which do not run."""
    return await _asked(bus, services, "history", HistoryOf(id=id))


async def flow(bus: Bus, services: Iterable[str], correlationid: str) -> list[HistoryEntry]:
    """Every event of a flow in the order of time; says which services do not run."""
    found = await _asked(bus, services, "flow", FlowOf(id=correlationid))
    entries = [entry for part in found.values() for entry in part]
    return sorted(entries, key=lambda entry: (entry.time, entry.service, entry.sequence))


async def _asked(bus: Bus, services: Iterable[str], name: str, question: Question) -> Histories:
    sender = Sender(bus)

    async def ask(service: str) -> tuple[str, list[HistoryEntry]]:
        try:
            entries, _ = await sender.ask(service, name, question, list[HistoryEntry])
        except NotFound:
            return service, []
        except Unavailable:
            print(f"penstock: {service} does not answer; its part is missing.", file=sys.stderr)
            return service, []
        return service, entries

    found = await asyncio.gather(*map(ask, services))
    return {service: entries for service, entries in found if entries}


async def flow_of_message(bus: Bus, services: Iterable[str], id: str) -> str | None:
    """The flow of the event or command `id`, looked for in every event; None if there is none.

    Nothing finds a message by its id alone, so that this reads each log from its start.
    """
    for service in services:
        log = JetStreamEventLog(bus, service)
        try:
            async for record in log.read():
                if id in (record.event.id, record.event.causationid):
                    return record.event.correlationid
        finally:
            await log.close()
    return None
