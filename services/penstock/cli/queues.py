"""`penstock queues`: how queues do; pause, resume, drain, purge one, or weigh a tenant of it."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from penstock.cli.queue_tables import QueueRow, print_queues
from penstock.cli.verbs import print_json, running
from penstock.client.jobs import Jobs
from penstock.client.queues import Queues
from penstock.client.session import Session
from penstock.contracts.job_reads import Metrics
from penstock.contracts.queues import QueueState

Verb = Callable[[argparse.Namespace, Session], Awaitable[None]]


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "queues",
        help="list, pause, resume, drain and purge queues of jobs",
        description="Queues of jobs. What is said about one holds for all workers at once.",
    )
    verbs = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    about = "what waits and runs, how it stands, rates and latencies; by name, too"
    listing = verbs.add_parser("list", help=about, description=about)
    listing.add_argument("--queue", help="this one")
    listing.add_argument("--minutes", type=int, default=15, help="that latencies are of (15)")
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
    metrics = await Jobs(session).metrics(options.queue, minutes=options.minutes)
    states = [one for one in await Queues(session).list() if options.queue in (None, one.name)]
    found = rows(metrics, states)
    if options.json:
        print_json(found)
    else:
        print_queues(found)


def rows(metrics: Sequence[Metrics], states: Sequence[QueueState]) -> list[QueueRow]:
    """One for each queue, by name, and after it one for each of its names."""
    said = {state.name: state for state in states}
    of = {one.queue: one for one in metrics if one.name is None}
    found = [_row(of.get(name) or _idle(name), said.get(name)) for name in of.keys() | said.keys()]
    found += [_row(one, None) for one in metrics if one.name is not None]
    return sorted(found, key=lambda row: (row.queue, row.name or ""))


def _row(metrics: Metrics, state: QueueState | None) -> QueueRow:
    row = QueueRow(**msgspec.structs.asdict(metrics))
    if state is None:
        return row
    return msgspec.structs.replace(
        row,
        paused=state.paused,
        draining=state.draining,
        reason=state.reason,
        weights=state.weights,
    )


def _idle(name: str) -> Metrics:
    return Metrics(queue=name, waiting=0, delayed=0, retrying=0, processing=0, rates=())


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
