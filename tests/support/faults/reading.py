"""Reads what a system has stored, and waits until it has nothing left to do. Never writes."""

from __future__ import annotations

import asyncio
import base64
import time
from pathlib import Path
from typing import Any

import apsw
import msgspec

from penstock.contracts.dead import DeadLetter as Stored
from penstock.contracts.envelope import decode
from penstock.contracts.subjects import SERVICES
from penstock.infra.bus import Bus
from penstock.infra.event_log import JetStreamEventLog, Recorded
from support.faults.checker import DeadLetter
from support.faults.processes import System
from support.faults.views import Tables, reached, read_view

LONGEST = 90.0  # seconds until everything accepted must be done
POLL = 0.05


async def logs(bus: Bus) -> dict[str, list[Recorded]]:
    """Every event of every service."""
    return {
        service: [record async for record in JetStreamEventLog(bus, service).read()]
        for service in SERVICES
    }


async def dead_letters(bus: Bus) -> list[DeadLetter]:
    found = []
    after = 0
    request: dict[str, Any] = {"next_by_subj": bus.subjects.dead(), "batch": 500}
    while True:
        page = await bus.direct_get(bus.subjects.stream("dead"), {**request, "seq": after + 1})
        for message in page:
            letter = msgspec.json.decode(message.data, type=Stored)
            command = decode(_body(letter))
            found.append(DeadLetter(letter.service, command.subject, command.id, letter.reason))
        if not page or not page[-1].pending:
            return found
        after = page[-1].sequence


def _body(letter: Stored) -> bytes:
    if letter.body is not None:
        return letter.body.encode()
    return base64.b64decode(letter.body_base64 or "")


async def commands_done(bus: Bus) -> None:
    """Wait until every command and every change that was accepted has been handled."""
    async with asyncio.timeout(LONGEST):
        while await _messages(bus, "cmd") or await _changes_left(bus):
            await asyncio.sleep(POLL)


async def _messages(bus: Bus, stream: str) -> int:
    info = await bus.api(f"STREAM.INFO.{bus.subjects.stream(stream)}")
    return int(info["state"]["messages"])


async def _changes_left(bus: Bus) -> int:
    stream = bus.subjects.stream("changes")
    listed = await bus.api(f"CONSUMER.LIST.{stream}")
    return sum(c["num_pending"] + c["num_ack_pending"] for c in listed["consumers"])


async def caught_up_views(bus: Bus, system: System) -> dict[tuple[str, str], Tables]:
    """Each instance's view of each service, once it has folded what is there now."""
    found = {}
    for service in SERVICES:
        end = await JetStreamEventLog(bus, service).last_sequence()
        for instance in system.instances(service):
            found[service, instance] = await _caught_up(system, service, instance, end)
    return found


async def _caught_up(system: System, service: str, instance: str, end: int) -> Tables:
    deadline = time.monotonic() + LONGEST
    while reached(view := _view(system.view(service, instance))) < end:
        if time.monotonic() > deadline:
            at = reached(view)
            raise AssertionError(
                f"the view of {service} in {instance} stands at {at} and does not reach {end}"
            )
        await asyncio.sleep(POLL)
    return view


def _view(path: Path | None) -> Tables:
    if path is None:
        return {}
    try:
        return read_view(path)
    except (apsw.CantOpenError, apsw.BusyError, apsw.ReadOnlyError):
        return {}  # its process was killed a moment ago, and makes the file or recovers it


async def answer_sooner(bus: Bus, seconds: float) -> None:
    """Have what a killed instance held given to another one sooner than by default."""
    for stream in (bus.subjects.stream("cmd"), bus.subjects.stream("changes")):
        listed = await bus.api(f"CONSUMER.LIST.{stream}")
        for consumer in listed["consumers"]:
            config = {**consumer["config"], "ack_wait": int(seconds * 1e9)}
            await bus.api(
                f"CONSUMER.DURABLE.CREATE.{stream}.{consumer['name']}",
                {"stream_name": stream, "config": config, "action": "update"},
            )
