"""`penstock history`: every event of an aggregate: what, who, why, when, and its state then."""

from __future__ import annotations

import argparse
import asyncio
from datetime import UTC, datetime

import msgspec
from rich.console import Console
from rich.text import Text

from penstock.cli.asking import Histories, histories
from penstock.cli.connecting import connected, service_named
from penstock.contracts.answers import ById, HistoryEntry
from penstock.contracts.errors import InvalidMessage, NotFound
from penstock.contracts.subjects import SERVICES
from penstock.infra.sender import Sender
from penstock.infra.settings import Settings


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "history",
        usage="penstock history [-h] [--at AT] [--archive] [--json] [SERVICE] ID",
        help="tell every event of an aggregate: what, who, why, when",
        description="Tells every event of the aggregate ID, of one service or of all that know it. "
        "A document of exports is document:KIND/ID, an inbox user:NAME, a channel channel:NAME.",
    )
    parser.add_argument("names", nargs="+", metavar="[SERVICE] ID")
    parser.add_argument(
        "--at",
        help="only what had happened then, and the state that it gives; a stream sequence (with a "
        "SERVICE) or a time such as 2026-01-31T09:30:00Z",
    )
    parser.add_argument(
        "--archive",
        action="store_true",
        help="search the whole archive for an id that nothing leads to any more; takes long",
    )
    parser.add_argument("--json", action="store_true", help="the events as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, settings: Settings) -> int:
    """See the module."""
    services, id = _wanted(options.names)
    at = _checked(options.at, services)
    found, states = asyncio.run(_find(settings, services, id, at, options.archive))
    if options.json:
        entries = [entry for part in found.values() for entry in part]
        shown = {"events": entries, **({"states": states} if at else {})}
        print(msgspec.json.encode(shown).decode())
        return 0
    console = Console(highlight=False)
    for service, part in found.items():
        _tell(console, service, id, part)
        if service in states:
            _say(console, f"its state at {at}: {_json(states[service])}", "bold")
    return 0


def _wanted(names: list[str]) -> tuple[tuple[str, ...], str]:
    """The services to ask, and the id. Raises StartupError, InvalidMessage."""
    match names:
        case [id]:
            return SERVICES, id
        case [service, id]:
            return (service_named(service),), id
        case _:
            raise InvalidMessage("Name one aggregate: penstock history [SERVICE] ID.")


def _checked(at: str | None, services: tuple[str, ...]) -> str | None:
    if at is None:
        return None
    if at.isdecimal() and len(services) > 1:
        raise InvalidMessage(
            f"--at {at} is a sequence of one service's stream: name the SERVICE before the ID."
        )
    if not at.isdecimal():
        _moment(at)
    return at


def _moment(at: str) -> datetime:
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidMessage(
            f"--at {at} is neither a stream sequence nor a time such as 2026-01-31T09:30:00Z."
        )
    return moment


async def _find(
    settings: Settings, services: tuple[str, ...], id: str, at: str | None, archive: bool
) -> tuple[Histories, dict[str, object]]:
    """The events that had happened, and with `at` the states that they gave. Raises NotFound."""
    async with connected(settings) as bus:
        found = await histories(bus, services, id, archive=archive)
        if at is None:
            told, states = found, {}
        else:
            told = {s: kept for s, part in found.items() if (kept := _until(part, at))}
            states = {s: await _state(Sender(bus), s, id, at) for s in told}
    if not told:
        where = services[0] if len(services) == 1 else "No service that runs"
        knows, when = ("knows no" if len(services) == 1 else "knows"), f" at {at}" if at else ""
        raise NotFound(f"{where} {knows} {id!r}{when}.", id=id)
    return told, states


def _until(entries: list[HistoryEntry], at: str) -> list[HistoryEntry]:
    if at.isdecimal():
        return [entry for entry in entries if entry.sequence <= int(at)]
    moment = _moment(at)
    return [entry for entry in entries if entry.time <= moment]


async def _state(sender: Sender, service: str, id: str, at: str) -> object:
    state, _ = await sender.ask(service, "get", ById(id=id, at=at), dict[str, object])
    return state


def _tell(console: Console, service: str, id: str, entries: list[HistoryEntry]) -> None:
    _say(console, f"{service}  {id}  {len(entries)} event{'s' * (len(entries) > 1)}", "bold")
    for entry in entries:
        line = Text(f"{entry.sequence:>8}  #{entry.version:<4} ", style="dim")
        line.append(f"{_time(entry.time)}  ", style="dim")
        line.append(_name(entry.type), style="green").append(f"  by {entry.actor or '-'}")
        line.append(f"  because of {_cause(entry)}")
        line.append(f"  trace {_trace(entry)}", style="dim").append(f"  {_json(entry.data)}")
        console.print(line, soft_wrap=True)


def _time(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _cause(entry: HistoryEntry) -> str:
    if entry.causationid is None:
        return "-"
    named = f"{_name(entry.causationtype)} " if entry.causationtype else ""
    return named + entry.causationid


def _trace(entry: HistoryEntry) -> str:
    """The trace id in a traceparent (https://www.w3.org/TR/trace-context/)."""
    parts = (entry.traceparent or "").split("-")
    return parts[1] if len(parts) == 4 else "-"


def _name(type: str) -> str:
    """`jobs.queued.v1` from `penstock.jobs.queued.v1`."""
    return type.partition(".")[2]


def _json(data: object) -> str:
    return msgspec.json.encode(data).decode()


def _say(console: Console, text: str, style: str) -> None:
    console.print(text, style=style, markup=False, soft_wrap=True)
