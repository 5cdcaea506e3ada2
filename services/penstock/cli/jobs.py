"""`penstock jobs`: list, show, enqueue and cancel jobs, and see what to expect of them.

How queues do is for `queues`. Dead ones are in `jobs_dead`, runs anew in `jobs_rerun`, tables in
`job_tables` and `queue_tables`.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import AsyncIterator
from typing import Any, get_args

from penstock.cli import job_tables, jobs_dead, jobs_rerun, queue_tables
from penstock.cli.verbs import Parsers, add_verb, moment, payload, print_json
from penstock.client.jobs import Jobs
from penstock.contracts.job_state import JobState, State

LIMIT = 50
PAGE = 1000


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "jobs",
        help="list, show, enqueue, cancel, redrive, rerun and explain jobs",
        description="Jobs: what waits, runs and ran, and what became of it.",
    )
    verbs = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_list(verbs)
    _add_enqueue(verbs)
    showing = add_verb(verbs, "show", show_one, "one job: its input, attempts, errors, result")
    showing.add_argument("id", metavar="ID")
    showing.add_argument("--at", help="as it was then: a stream sequence or a time")
    cancelling = add_verb(verbs, "cancel", cancel, "cancel jobs that wait or run")
    cancelling.add_argument("ids", metavar="ID", nargs="+")
    cancelling.add_argument("--reason", help="why; it is kept")
    jobs_dead.add_to(verbs)
    jobs_rerun.add_to(verbs)
    _add_looking(verbs)


def _add_list(verbs: Parsers) -> None:
    parser = add_verb(verbs, "list", show_list, "the newest jobs")
    parser.add_argument("--state", "--status", choices=get_args(State), help="in this state")
    for name, help in (
        ("queue", "of this queue"),
        ("name", "of this name"),
        ("tag", "with this tag"),
        ("workflow", "of this workflow"),
        ("schedule", "of this schedule"),
        ("parent", "enqueued by this job"),
        ("rerun-of", "run anew with this job's input"),
    ):
        parser.add_argument(f"--{name}", help=help)
    parser.add_argument("--since", type=moment, metavar="TIME", help="enqueued then or later")
    parser.add_argument("--until", type=moment, metavar="TIME", help="enqueued before")
    parser.add_argument("--before", metavar="ID", help="older than this one, the last of a page")
    parser.add_argument("--limit", type=int, default=LIMIT, help=f"so many ({LIMIT}); 0: all")


def _add_enqueue(verbs: Parsers) -> None:
    parser = add_verb(verbs, "enqueue", enqueue, "enqueue a job; prints its id")
    parser.add_argument("name", metavar="NAME", help="the handler to run")
    parser.add_argument("payload", metavar="PAYLOAD", nargs="?", default="{}", help="JSON object")
    parser.add_argument("--id", help="an id of your own: the same again enqueues nothing")
    parser.add_argument("--queue", default="default")
    parser.add_argument("--priority", type=int, default=5, help="9 goes first, 0 last (5)")
    parser.add_argument("--delay", type=float, default=0, metavar="SECONDS")
    parser.add_argument("--at", type=moment, metavar="TIME", help="not before then")
    parser.add_argument("--max-attempts", type=int, default=3, help="(3)")
    parser.add_argument("--tag", action="append", default=[], help="may be repeated")


def _add_looking(verbs: Parsers) -> None:
    stats = add_verb(verbs, "stats", show_stats, "how many jobs are in each state, or were")
    stats.add_argument("--at", help="then: a stream sequence or a time")
    stats.add_argument("--queue", help="of this queue")
    stats.add_argument("--name", help="of this name")
    add_verb(verbs, "handlers", show_handlers, "the names of jobs, and who can do them")
    why = add_verb(verbs, "why", show_why, "why a job does not start: what it waits for")
    why.add_argument("id", metavar="ID")
    estimate = add_verb(verbs, "estimate", show_estimate, "when a job may start and end")
    estimate.add_argument("id", metavar="ID")


async def show_list(options: argparse.Namespace, jobs: Jobs) -> None:
    """Print jobs, each as a row or as a line of JSON."""
    filters = {
        name: getattr(options, name)
        for name in ("state", "queue", "name", "tag", "workflow", "schedule", "parent",
                     "rerun_of", "since", "until")
    }  # fmt: skip
    found = _pages(jobs, filters, options.before, options.limit)
    if options.json:
        async for job in found:
            print_json([job])
    else:
        job_tables.print_jobs([job async for job in found])


async def _pages(
    jobs: Jobs, filters: dict[str, Any], before: str | None, limit: int
) -> AsyncIterator[JobState]:
    left = limit or None
    for _ in itertools.count():
        size = PAGE if left is None else min(left, PAGE)
        page = await jobs.list(**filters, limit=size, before=before)
        for job in page:
            yield job
        left = None if left is None else left - len(page)
        if len(page) < size or left == 0:
            return
        before = page[-1].id


async def show_one(options: argparse.Namespace, jobs: Jobs) -> None:
    """Print one job, whole."""
    job = await jobs.get(options.id, at=options.at)
    if options.json:
        print_json([job])
    else:
        job_tables.print_job(job)


async def enqueue(options: argparse.Namespace, jobs: Jobs) -> None:
    """Enqueue a job, and print its id."""
    job = await jobs.enqueue(
        options.name,
        payload(options.payload),
        id=options.id,
        queue=options.queue,
        priority=options.priority,
        delay=options.delay,
        at=options.at,
        max_attempts=options.max_attempts,
        tags=options.tag,
    )
    if options.json:
        print_json([job])
    else:
        print(job.id)


async def cancel(options: argparse.Namespace, jobs: Jobs) -> None:
    """Cancel some jobs."""
    for id in options.ids:
        job = await jobs.cancel(id, options.reason)
        if options.json:
            print_json([job])
        else:
            print(f"{id} is {job.state}.")


async def show_stats(options: argparse.Namespace, jobs: Jobs) -> None:
    """Print how many jobs are in each state, or were."""
    found = await jobs.stats(at=options.at, queue=options.queue, name=options.name)
    if options.json:
        print_json([found])
    else:
        queue_tables.print_stats(found)


async def show_handlers(options: argparse.Namespace, jobs: Jobs) -> None:
    """Print the names of jobs."""
    found = await jobs.handlers()
    if options.json:
        print_json(found)
    else:
        queue_tables.print_handlers(found)


async def show_why(options: argparse.Namespace, jobs: Jobs) -> None:
    """Print what a job waits for, a sentence a line."""
    found = await jobs.why(options.id)
    if options.json:
        print_json([found])
    else:
        print("\n".join(found.because) or f"{found.id} waits for nothing: it is {found.state}.")


async def show_estimate(options: argparse.Namespace, jobs: Jobs) -> None:
    """Print what is expected of one job."""
    found = await jobs.estimate(options.id)
    if options.json:
        print_json([found])
    else:
        job_tables.print_estimate(found)
