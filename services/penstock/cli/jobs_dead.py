"""`penstock jobs dead|redrive|discard`: jobs that failed, run again or put aside."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any, get_args

from penstock.cli import job_tables
from penstock.cli.count_display import display
from penstock.cli.verbs import Parsers, add_verb, print_json
from penstock.client.jobs import Jobs
from penstock.client.jobs_dead import Settled
from penstock.contracts.errors import InvalidMessage
from penstock.contracts.job_reads import DeadCount
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import FailureCause

LIMIT = 50
FILTERS = ("error", "name", "queue", "cause")


def add_to(verbs: Parsers) -> None:
    """Add the three commands."""
    dead = add_verb(verbs, "dead", show, "jobs that failed and were not discarded")
    _add_filters(dead)
    dead.add_argument("--count", action="store_true", help="how many of each class of error")
    dead.add_argument("--limit", type=int, default=LIMIT, help=f"so many ({LIMIT}); 0: all")
    for name, verb, help in (
        ("redrive", redrive, "run failed jobs again, with new budgets; interrupted, begin again"),
        ("discard", discard, "take failed jobs off the dead ones; they stay failed"),
    ):
        parser = add_verb(verbs, name, verb, help)
        parser.add_argument("ids", metavar="ID", nargs="*", help="these jobs")
        _add_filters(parser)
        parser.add_argument("--all", action="store_true", help="every dead job")
        parser.add_argument("--reason", help="why; it is kept")


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--error", metavar="CLASS", help="whose last error is of this class")
    parser.add_argument("--name", help="of this name")
    parser.add_argument("--queue", help="of this queue")
    parser.add_argument("--cause", choices=get_args(FailureCause), help="that failed because of it")


def _filters(options: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(options, name) for name in FILTERS}


async def show(options: argparse.Namespace, jobs: Jobs) -> None:
    """Print dead jobs, or how many there are of each class of error."""
    if options.count:
        counts = await jobs.dead_counts(**_filters(options))
        if options.json:
            print_json(counts)
        else:
            job_tables.print_dead_counts(counts)
        return
    found: list[JobState] = []
    shown = count(1)
    async for job in jobs.dead(**_filters(options)):
        if options.json:
            print_json([job])
        else:
            found.append(job)
        if next(shown) == options.limit:
            break
    if not options.json:
        job_tables.print_jobs(found)


async def redrive(options: argparse.Namespace, jobs: Jobs) -> int:
    """Redrive some jobs or all that fit; 1 if any was refused."""
    every = jobs.redrive_all
    return await _settle(options, jobs.redrive, every, jobs.dead_counts, "redriven")


async def discard(options: argparse.Namespace, jobs: Jobs) -> int:
    """Discard some jobs or all that fit; 1 if any was refused."""
    every = jobs.discard_all
    return await _settle(options, jobs.discard, every, jobs.dead_counts, "discarded")


async def _settle(
    options: argparse.Namespace,
    one: Callable[..., Awaitable[JobState]],
    every: Callable[..., Awaitable[Settled]],
    counts: Callable[..., Awaitable[list[DeadCount]]],
    done: str,
) -> int:
    filters = _filters(options)
    chosen = options.all or any(filters.values())
    if bool(options.ids) == bool(chosen):
        raise InvalidMessage(
            "Name the jobs, or what they have in common such as --error, or --all."
        )
    if options.ids:
        for id in options.ids:
            job = await one(id, options.reason)
            if options.json:
                print_json([job])
            else:
                print(f"{id} is {done}.")
        return 0

    total = sum(one.count for one in await counts(**filters))
    with display(done, total) as told:
        settled = await every(**filters, reason=options.reason, told=told)
    if options.json:
        print_json([settled])
    else:
        print(f"{settled.done} {done}.")
        for id, why in settled.left.items():
            print(f"{id}: {why}", file=sys.stderr)
    return 1 if settled.refused else 0
