"""`penstock dead`: what could not be handled: list it, look at it, redrive it, discard it."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from typing import get_args

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from penstock.cli.connecting import connected, service_named
from penstock.cli.settling import discard, redrive, selection
from penstock.cli.tables import console, print_fields
from penstock.contracts.dead import Found, Kind, body_of, listed
from penstock.infra.bus import Bus
from penstock.infra.dead_letters.office import DeadLetterOffice
from penstock.infra.settings import Settings

LIMIT = 50
Verb = Callable[[argparse.Namespace, Bus], Awaitable[int]]


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "dead",
        help="list, show, redrive and discard what could not be handled",
        description="Dead letters: commands, events, changes and timers that could not be handled, "
        "each with its reason. They stay until somebody decides, for 90 days.",
    )
    verbs = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_list(verbs)
    _add_show(verbs)
    _add_redrive(verbs)
    _add_discard(verbs)


def run(verb: Verb, options: argparse.Namespace, settings: Settings) -> int:
    """Run one verb with a connection to the system; its exit status."""

    async def connect_and_run() -> int:
        async with connected(settings) as bus:
            return await verb(options, bus)

    return asyncio.run(connect_and_run())


def _add_list(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("list", help="the newest letters")
    _add_filters(parser)
    parser.add_argument("--limit", type=int, default=LIMIT, help=f"so many ({LIMIT})")
    parser.add_argument("--before", type=int, default=0, metavar="NUMBER", help="older than this")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.set_defaults(run=_with(show_list))


def _add_show(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("show", help="one letter: what the message said, why it failed")
    parser.add_argument("number", type=int, metavar="NUMBER")
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    parser.set_defaults(run=_with(show_one))


def _add_redrive(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "redrive",
        help="send messages back to where they came from",
        description="Sends the messages of letters back to where they came from, the oldest first, "
        "and removes each letter once its message is stored there. What cannot be redriven stays, "
        "with one line that says why; exit status 1 then. Interrupted, begin it again.",
    )
    _add_selection(parser)
    parser.set_defaults(run=_with(redrive))


def _add_discard(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "discard",
        help="remove letters and their messages for good",
        description="Removes letters and their messages for good. An aggregate that is held "
        "because of a discarded event stays held.",
    )
    _add_selection(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.set_defaults(run=_with(discard))


def _add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("numbers", type=int, nargs="*", metavar="NUMBER", help="these letters")
    _add_filters(parser)
    parser.add_argument("--all", action="store_true", help="every letter")
    parser.add_argument("--limit", type=int, default=0, help="at most so many, the oldest")
    parser.add_argument("--json", action="store_true", help="one JSON object a letter and line")


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--service", type=service_named, help="of this service")
    parser.add_argument("--kind", choices=get_args(Kind), default="", help="of this kind")
    parser.add_argument("--reason", default="", help="for this type of error, such as not-found")
    parser.add_argument("--aggregate", default="", metavar="ID", help="about this aggregate")


def _with(verb: Verb) -> Callable[[argparse.Namespace, Settings], int]:
    return lambda options, settings: run(verb, options, settings)


# -- reading -----------------------------------------------------------------------------------


async def show_list(options: argparse.Namespace, bus: Bus) -> int:
    """Print the newest letters that match, each as a row or as a line of JSON."""
    table = Table(box=None, pad_edge=False)
    for column in ("number", "when", "kind", "message", "aggregate", "reason"):
        table.add_column(column, overflow="fold", no_wrap=column != "reason")
    shown = 0
    letters = DeadLetterOffice(bus).newest_first(selection(options), options.before)
    async for found in letters:
        if options.json:
            print(msgspec.json.encode(listed(found)).decode())
        else:
            table.add_row(*map(escape, _row(found)))
        shown += 1
        if shown == options.limit:
            break
    if not options.json:
        console().print(table if shown else "There is no such dead letter.")
    return 0


def _row(found: Found) -> tuple[str, ...]:
    letter = found.letter
    when = letter.time.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    # Both begin with a prefix that says nothing here; the service comes next.
    message = (letter.type or letter.subject).partition(".")[2]
    reason = letter.reason.detail or letter.reason.title
    return str(found.number), when, letter.kind, message, letter.id, reason


async def show_one(options: argparse.Namespace, bus: Bus) -> int:
    """Print one letter, whole."""
    found = await DeadLetterOffice(bus).show(options.number)
    if options.json:
        print(msgspec.json.encode(found).decode())
        return 0
    print_fields(_fields(found))
    if found.letter.trace:
        Console(highlight=False, soft_wrap=True).print(found.letter.trace, markup=False)
    return 0


def _fields(found: Found) -> list[tuple[str, str]]:
    letter, reason = found.letter, found.letter.reason
    body = body_of(letter)
    return [
        ("number", str(found.number)),
        ("when", letter.time.astimezone().isoformat(" ", "seconds")),
        ("service", letter.service),
        ("kind", letter.kind),
        ("aggregate", letter.id),
        ("type", letter.type),
        ("message", letter.message),
        ("subject", f"{letter.subject} at {letter.sequence}"),
        ("consumer", letter.consumer),
        ("deliveries", str(letter.deliveries)),
        ("reason", f"{reason.title} ({reason.type}, {reason.status}): {reason.detail}"),
        ("headers", "\n".join(f"{k}: {v}" for k, v in letter.headers.items())),
        ("body", "(not kept)" if body is None else body.decode(errors="backslashreplace")),
    ]
