"""`penstock schedules`: what runs again and again: list, show, put, pause, resume, trigger, delete.

How they are shown is in `schedule_tables`.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from typing import get_args

import msgspec

from penstock.cli.schedule_tables import print_list, print_one, print_runs
from penstock.cli.verbs import Parsers, moment, payload, running
from penstock.client.schedules import Schedules
from penstock.contracts.schedules import Missed, Overlap

Verb = Callable[[argparse.Namespace, Schedules], Awaitable[None]]


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "schedules",
        help="list, show, put, pause, resume, trigger and delete what runs again and again",
        description="Schedules of jobs. Each tick has one job, NAME@TIME, whatever runs or dies.",
    )
    verbs = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_reading(verbs)
    _add_put(verbs)
    _add_changing(verbs)


def _verb(verbs: Parsers, name: str, verb: Verb, help: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=help)
    parser.set_defaults(run=running(lambda options, session: verb(options, Schedules(session))))
    return parser


# -- reading -----------------------------------------------------------------------------------


def _add_reading(verbs: Parsers) -> None:
    listing = _verb(verbs, "list", show_list, "all of them, by name")
    listing.add_argument("--paused", action="store_true", default=None, help="only those")
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    showing = _verb(verbs, "show", show_one, "one: its job, its times, what came of it")
    showing.add_argument("name", metavar="NAME")
    showing.add_argument("--json", action="store_true", help="as one JSON object")
    coming = _verb(verbs, "next", show_next, "the times of the next runs")
    coming.add_argument("name", metavar="NAME")
    coming.add_argument("-n", type=int, default=10, metavar="RUNS", help="so many (10)")
    coming.add_argument("--after", type=moment, metavar="TIME", help="later than this")
    coming.add_argument("--json", action="store_true", help="as a JSON list")


async def show_list(options: argparse.Namespace, schedules: Schedules) -> None:
    """Print every schedule, as a row or as a line of JSON."""
    found = page = await schedules.list(paused=options.paused, limit=1000)
    while len(page) == 1000:
        page = await schedules.list(paused=options.paused, limit=1000, after=page[-1].name)
        found += page
    if not options.json:
        print_list(found)
    for schedule in found if options.json else ():
        print(msgspec.json.encode(schedule).decode())


async def show_one(options: argparse.Namespace, schedules: Schedules) -> None:
    """Print one schedule, whole."""
    runs = await schedules.next_runs(options.name, 5)
    schedule = await schedules.get(options.name)
    if options.json:
        shown = {"schedule": schedule, "next_runs": runs}
        print(msgspec.json.encode(shown).decode())
    else:
        print_one(schedule, runs)


async def show_next(options: argparse.Namespace, schedules: Schedules) -> None:
    """Print the times of the next runs, a line each."""
    runs = await schedules.next_runs(options.name, options.n, after=options.after)
    if options.json:
        print(msgspec.json.encode(runs).decode())
    else:
        print_runs(await schedules.get(options.name), runs)


# -- changing ----------------------------------------------------------------------------------


def _add_put(verbs: Parsers) -> None:
    parser = _verb(verbs, "put", put, "create a schedule, or change the one of that name")
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("job", metavar="JOB", help="the handler to run")
    parser.add_argument("payload", metavar="PAYLOAD", nargs="?", default="{}", help="JSON object")
    when = parser.add_mutually_exclusive_group(required=True)
    when.add_argument("--cron", help="such as '0 9 * * 1-5' (9:00 from Monday to Friday), @daily")
    when.add_argument("--every", metavar="INTERVAL", help="such as 10m, 1h30m, 45s, or seconds")
    parser.add_argument("--timezone", default="UTC", help="of --cron, such as Europe/Berlin (UTC)")
    parser.add_argument("--start", type=moment, metavar="TIME", help="no tick before this")
    parser.add_argument("--end", type=moment, metavar="TIME", help="no tick after this")
    parser.add_argument("--jitter", type=float, default=0, metavar="SECONDS", help="spread over it")
    parser.add_argument("--missed", choices=get_args(Missed), default="latest",
                        help="what becomes of ticks while no service ran (latest)")  # fmt: skip
    parser.add_argument("--most", type=int, default=100, help="of --missed all, so many (100)")
    parser.add_argument("--overlap", choices=get_args(Overlap), default="allow",
                        help="skip: a tick passes while the last job is not over")  # fmt: skip
    parser.add_argument("--queue", default="default")
    parser.add_argument("--priority", type=int, default=5, help="9 goes first, 0 last (5)")
    parser.add_argument("--max-attempts", type=int, default=3, help="(3)")
    parser.add_argument("--tag", action="append", default=[], help="for the jobs; may be repeated")


async def put(options: argparse.Namespace, schedules: Schedules) -> None:
    """Create or change a schedule and show it."""
    await schedules.put(
        options.name,
        options.job,
        payload(options.payload),
        cron=options.cron if options.every is None else _every(options.every),
        timezone=options.timezone,
        start=options.start,
        end=options.end,
        jitter=options.jitter,
        missed=options.missed,
        most=options.most,
        overlap=options.overlap,
        queue=options.queue,
        priority=options.priority,
        max_attempts=options.max_attempts,
        tags=options.tag,
    )
    print_one(await schedules.get(options.name), await schedules.next_runs(options.name, 3))


def _add_changing(verbs: Parsers) -> None:
    for name, verb, help in (
        ("pause", pause, "let no tick run until it is resumed"),
        ("resume", resume, "go on with the next tick"),
        ("trigger", trigger, "run the job now; prints its id"),
        ("delete", delete, "let no tick run any more"),
    ):
        parser = _verb(verbs, name, verb, help)
        parser.add_argument("name", metavar="NAME")
        if name in ("pause", "delete"):
            parser.add_argument("--reason", help="why; it is kept")


async def pause(options: argparse.Namespace, schedules: Schedules) -> None:
    """Pause one."""
    await schedules.pause(options.name, options.reason)
    print(f"{options.name} is paused.")


async def resume(options: argparse.Namespace, schedules: Schedules) -> None:
    """Resume one, and say when it runs next."""
    await schedules.resume(options.name)
    print_runs(await schedules.get(options.name), await schedules.next_runs(options.name, 1))


async def trigger(options: argparse.Namespace, schedules: Schedules) -> None:
    """Run one now, and print its job."""
    print(await schedules.trigger(options.name))


async def delete(options: argparse.Namespace, schedules: Schedules) -> None:
    """Delete one."""
    await schedules.delete(options.name, options.reason)
    print(f"{options.name} is deleted; the jobs that it enqueued stay.")


def _every(interval: str) -> str:
    return f"@every {interval}{'s' if interval.isdigit() else ''}"
