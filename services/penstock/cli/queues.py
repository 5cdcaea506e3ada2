"""`penstock queues`: list queues, and pause, resume, drain, purge one, or weigh a tenant of it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable, Callable

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from penstock.cli.verbs import running
from penstock.client.jobs import Jobs
from penstock.client.queues import Queues
from penstock.client.session import Session
from penstock.contracts.job_reads import QueueDepth
from penstock.contracts.queues import QueueState

PIPED = 240  # columns where nobody looks
Verb = Callable[[argparse.Namespace, Session], Awaitable[None]]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to say about a queue."""

    name: str
    waiting: int = 0
    delayed: int = 0
    processing: int = 0
    paused: bool = False
    draining: bool = False
    reason: str | None = None
    weights: dict[str, int] = {}


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "queues",
        help="list, pause, resume, drain and purge queues of jobs",
        description="Queues of jobs. What is said about one holds for all workers at once.",
    )
    verbs = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    listing = verbs.add_parser("list", help="every queue: what waits and runs, how it stands")
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    listing.set_defaults(run=running(show_list))
    for name, verb, about in (
        ("pause", pause, "let no worker begin a job; what runs comes to its end"),
        ("resume", resume, "go on: end a pause, or a drain"),
        ("drain", drain, "take no new jobs; those that are there are worked off"),
        ("purge", purge, "cancel every job that waits; what runs goes on"),
    ):
        one = verbs.add_parser(name, help=about, description=about)
        one.add_argument("name", metavar="QUEUE")
        if name != "resume":
            one.add_argument("--reason", help="why; it is kept")
        one.set_defaults(run=running(verb))
    weighing = verbs.add_parser("weigh", help="give a tenant more turns than the others")
    weighing.add_argument("name", metavar="QUEUE")
    weighing.add_argument("tenant", metavar="TENANT")
    weighing.add_argument("weight", metavar="WEIGHT", type=int, help="turns, 1 to 100")
    weighing.set_defaults(run=running(weigh))


async def show_list(options: argparse.Namespace, session: Session) -> None:
    """Print every queue that has jobs or about which something was said."""
    found = rows(await Jobs(session).queues(), await Queues(session).list())
    if options.json:
        for row in found:
            print(msgspec.json.encode(row).decode())
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("queue", overflow="fold")
    for column in ("waiting", "delayed", "processing"):
        table.add_column(column, justify="right")
    table.add_column("state", overflow="fold")
    table.add_column("weights", overflow="fold")
    for row in found:
        numbers = f"{row.waiting:,}", f"{row.delayed:,}", f"{row.processing:,}"
        weights = ", ".join(f"{tenant} {n}" for tenant, n in sorted(row.weights.items()))
        table.add_row(escape(row.name), *numbers, escape(_state(row)), escape(weights))
    width = None if sys.stdout.isatty() else PIPED
    Console(width=width).print(table if found else "No queue has jobs.")


def rows(depths: list[QueueDepth], states: list[QueueState]) -> list[Row]:
    """One for each queue, by name."""
    found = {state.name: Row(name=state.name) for state in states}
    for depth in depths:
        row = found.get(depth.queue, Row(name=depth.queue))
        found[depth.queue] = Row(
            name=depth.queue,
            waiting=row.waiting + depth.waiting,
            delayed=row.delayed + depth.delayed,
            processing=row.processing + depth.processing,
        )
    for state in states:
        found[state.name] = msgspec.structs.replace(
            found[state.name],
            paused=state.paused,
            draining=state.draining,
            reason=state.reason,
            weights=state.weights,
        )
    return [found[name] for name in sorted(found)]


def _state(row: Row) -> str:
    words = [word for word, is_so in (("paused", row.paused), ("draining", row.draining)) if is_so]
    why = f": {row.reason}" if row.reason else ""
    return " and ".join(words) + why if words else "open"


async def pause(options: argparse.Namespace, session: Session) -> None:
    """Pause one."""
    await Queues(session).pause(options.name, options.reason)
    print(f"{options.name} is paused: no worker begins a job of it.")


async def resume(options: argparse.Namespace, session: Session) -> None:
    """Resume one."""
    await Queues(session).resume(options.name)
    print(f"{options.name} takes jobs and gives them out.")


async def drain(options: argparse.Namespace, session: Session) -> None:
    """Drain one."""
    await Queues(session).drain(options.name, options.reason)
    print(f"{options.name} takes no new jobs; those that are there are worked off.")


async def purge(options: argparse.Namespace, session: Session) -> None:
    """Purge one."""
    await Queues(session).purge(options.name, options.reason)
    print(f"What waited in {options.name} is cancelled.")


async def weigh(options: argparse.Namespace, session: Session) -> None:
    """Weigh a tenant."""
    await Queues(session).set_weight(options.name, options.tenant, options.weight)
    print(f"{options.tenant} gets {options.weight} turns for each one of another tenant.")
