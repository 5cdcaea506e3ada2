"""`penstock workers`: who works, on what, in which version, and how long ago it was heard of."""

from __future__ import annotations

import argparse

from penstock.cli import queue_tables
from penstock.cli.verbs import print_json, running
from penstock.client.jobs import Jobs


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "workers",
        help="list the workers, and what they run",
        description="The workers that gave a sign of life within the last minutes.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.set_defaults(run=running(lambda options, session: show(options, Jobs(session))))


async def show(options: argparse.Namespace, jobs: Jobs) -> None:
    """Print every worker."""
    found = await jobs.workers()
    if options.json:
        print_json(found)
    else:
        queue_tables.print_workers(found)
