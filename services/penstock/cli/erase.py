"""`penstock erase`: removes everything that is known of an id, in every service that knows it."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import sys
import uuid

from penstock.cli.connecting import connected, service_named
from penstock.contracts.answers import HistoryEntry, HistoryOf
from penstock.contracts.errors import NotFound, Unavailable
from penstock.contracts.exports import HISTORY, ExportState, ListExports
from penstock.contracts.lifecycle import ERASE
from penstock.contracts.subjects import SERVICES
from penstock.infra.bus import Bus
from penstock.infra.sender import LONGEST_WAIT, Cause, Sender
from penstock.infra.settings import Settings

TIMEOUT = 60.0  # seconds that one service may take


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "erase",
        help="remove everything that is known of an id, for good",
        description="Erases the aggregate ID from every service that knows it: its events, views, "
        "snapshots, search index, files and archive. That it was erased, when, by whom and why "
        "stays; the id is never used again. A document of exports is document:KIND/ID, an inbox "
        "user:NAME.",
    )
    parser.add_argument("id", metavar="ID")
    parser.add_argument("--reason", required=True, help="why; it is kept")
    parser.add_argument("--service", help=f"only there: {', '.join(SERVICES)}")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, settings: Settings) -> int:
    """See the module."""
    services = (service_named(options.service),) if options.service else SERVICES
    return asyncio.run(_erase(options, settings, services))


async def _erase(options: argparse.Namespace, settings: Settings, services: tuple[str, ...]) -> int:
    async with connected(settings) as bus:
        known = await _known(Sender(bus), services, options.id)
        if not options.yes and not _agreed(options.id, known):
            print("Nothing was erased.")
            return 1
        await _carry_out(bus, options, tuple(known))
    return 0


async def _known(sender: Sender, services: tuple[str, ...], id: str) -> dict[str, int]:
    """How many events each service has of it. Raises NotFound if none has any."""
    known: dict[str, int] = {}
    for service in services:
        try:
            question = HistoryOf(id=id)
            entries, _ = await sender.ask(service, "history", question, list[HistoryEntry])
        except NotFound:
            continue
        except Unavailable:
            print(f"{service}: does not run, and was not asked", file=sys.stderr)
            continue
        known[service] = len(entries)
    if not known:
        raise NotFound(f"No service that runs knows the id {id!r}.")
    return known


def _agreed(id: str, known: dict[str, int]) -> bool:
    listed = ", ".join(f"{count} events of {service}" for service, count in known.items())
    return input(f"Erase {id!r} for good ({listed})? Type its id to confirm: ") == id


async def _carry_out(bus: Bus, options: argparse.Namespace, services: tuple[str, ...]) -> None:
    sender = Sender(bus)
    flow = uuid.uuid4().hex
    for service in services:
        sequence = await _send(sender, service, options.id, options.reason, flow)
        print(f"{service}: erased {options.id!r}; its tombstone is event {sequence}.")
        for export in await _exported(sender, f"{service}/{options.id}"):
            await _send(sender, "exports", export, options.reason, flow)
            print(f"exports: erased {export!r}, an export of its history.")


async def _send(sender: Sender, service: str, id: str, reason: str, flow: str) -> int:
    outcome = await sender.send(
        ERASE[service](reason=reason),
        id=id,
        command_id=f"{flow}:{service}",
        cause=Cause(correlationid=flow, actor=getpass.getuser()),
        timeout=TIMEOUT,
    )
    return outcome.sequence


async def _exported(sender: Sender, history: str) -> list[str]:
    """The exports that were made of a history; says so if nobody can tell."""
    question = ListExports(
        kind=HISTORY, document=history, limit=1000, newest=True, wait=LONGEST_WAIT
    )
    try:
        found, _ = await sender.ask("exports", "list", question, list[ExportState])
    except Unavailable as error:
        print(f"exports: may have exports of its history; run it again: {error}", file=sys.stderr)
        return []
    return [export.id for export in found]
