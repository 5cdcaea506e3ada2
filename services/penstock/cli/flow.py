"""`penstock flow`: what caused what, across all services, told from events alone."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

import msgspec
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from penstock.cli.asking import event_of, flow, histories
from penstock.cli.connecting import connected
from penstock.client.flow import Step, flow_lines, flow_tree, shortened, step_time
from penstock.contracts.answers import HistoryEntry
from penstock.contracts.errors import NotFound
from penstock.contracts.subjects import SERVICES
from penstock.infra.bus import Bus
from penstock.infra.settings import Settings

STYLES = {"command": "cyan", "change": "cyan", "event": "green", "hop": "yellow"}
OTHERS = 5  # flows of an aggregate that are named beside the one that is shown


class Flow(msgspec.Struct, frozen=True):
    """A flow by its correlation id, and `others` that the same aggregate took part in."""

    id: str
    entries: list[HistoryEntry]
    others: tuple[str, ...] = ()


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "flow",
        help="draw what caused what, across all services",
        description="Draws the tree of causes of a flow: each command and event under what caused "
        "it, with times, aggregates, who asked, and where work changed hands. ID is the flow's "
        "correlation id, or that of an aggregate, whose last flow is drawn, or of an event or "
        "command.",
    )
    parser.add_argument("id", metavar="ID")
    parser.add_argument("--all", action="store_true", help="every step, however many are alike")
    parser.add_argument("--json", action="store_true", help="the tree as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, settings: Settings) -> int:
    """See the module."""
    found = asyncio.run(_find(options.id, settings))
    if options.json:
        shown = {"id": found.id, "others": found.others, "steps": flow_tree(found.entries)}
        print(msgspec.json.encode(shown).decode())
        return 0
    console = Console(highlight=False)
    if console.is_terminal:
        _draw(console, found, every=options.all)
    else:
        print("\n".join(flow_lines(found.entries, every=options.all)))
    _name_others(console, options.id, found)
    return 0


async def _find(id: str, settings: Settings) -> Flow:
    async with connected(settings) as bus:
        if entries := await flow(bus, SERVICES, id):
            return Flow(id, entries)
        if found := await _of_aggregate(bus, id):
            return found
        if sys.stderr.isatty():
            print(f"looking for {id} in every event ...", file=sys.stderr)
        found_event = await event_of(bus, SERVICES, id)
        if found_event is None:
            raise NotFound(f"No flow, aggregate, event or command by the id {id!r} is known.")
        service, record = found_event
        correlationid = record.event.correlationid
        entries = await flow(bus, SERVICES, correlationid, {service: record.sequence})
        return Flow(correlationid, entries)


async def _of_aggregate(bus: Bus, id: str) -> Flow | None:
    """The last of the flows that an aggregate took part in."""
    known = await histories(bus, SERVICES, id)
    entries = sorted((e for part in known.values() for e in part), key=lambda e: e.time)
    flows = list(dict.fromkeys(entry.correlationid for entry in reversed(entries)))
    if not flows:
        return None
    seen = {service: part[-1].sequence for service, part in known.items()}
    return Flow(flows[0], await flow(bus, SERVICES, flows[0], seen), tuple(flows[1:]))


def _draw(console: Console, found: Flow, *, every: bool) -> None:
    tree = Tree(Text(f"flow {found.id}", style="bold"), guide_style="dim")
    steps = flow_tree(found.entries)
    _grow(tree, steps if every else shortened(steps))
    console.print(tree, soft_wrap=True)


def _grow(tree: Tree, steps: Sequence[Step]) -> None:
    waiting = [(tree, step) for step in reversed(steps)]
    while waiting:
        above, step = waiting.pop()
        label = Text(step_time(step), style="dim").append("  ")
        branch = above.add(label.append(str(step), style=STYLES.get(step.what, "dim")))
        waiting += [(branch, below) for below in reversed(step.caused)]


def _name_others(console: Console, id: str, found: Flow) -> None:
    if not found.others:
        return
    named = ", ".join(found.others[:OTHERS])
    more = f" and {len(found.others) - OTHERS} more" if len(found.others) > OTHERS else ""
    text = f"\n{id} took part in other flows before, the last first: {named}{more}"
    console.print(text, style="dim", markup=False, soft_wrap=True)
