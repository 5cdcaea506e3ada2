"""`penstock jobs rerun|compare`: a job's input run again, and two jobs side by side."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

import msgspec
from rich.markup import escape

from penstock.cli import tables
from penstock.cli.verbs import Parsers, add_verb, print_json
from penstock.client.jobs import Jobs
from penstock.contracts.errors import Timeout
from penstock.contracts.job_reads import Comparison, Outcome


def add_to(verbs: Parsers) -> None:
    """Add the two commands."""
    parser = add_verb(verbs, "rerun", rerun, "run a job's input again, and compare the outcomes")
    parser.add_argument("id", metavar="ID")
    parser.add_argument("--timeout", type=float, default=60, metavar="SECONDS", help="to wait (60)")
    parser.add_argument("--no-wait", action="store_true", help="only print the new job's id")
    comparing = add_verb(verbs, "compare", compare, "two jobs side by side")
    comparing.add_argument("id", metavar="ID")
    comparing.add_argument("other", metavar="ID")


async def rerun(options: argparse.Namespace, jobs: Jobs) -> None:
    """Run the input of a job again, wait for the end and print both. Raises Timeout."""
    job = await jobs.rerun(options.id)
    if options.no_wait:
        print(job.id)
        return
    try:
        async with asyncio.timeout(options.timeout):
            async for _ in jobs.watch(job.id):
                pass
    except TimeoutError:
        raise Timeout(
            f"The new job {job.id!r} did not end within {options.timeout:g} s; "
            f"later, see `penstock jobs compare {options.id} {job.id}`."
        ) from None
    _tell(await jobs.compare(options.id, job.id), options.json)


async def compare(options: argparse.Namespace, jobs: Jobs) -> None:
    """Print two jobs side by side."""
    _tell(await jobs.compare(options.id, options.other), options.json)


def _tell(found: Comparison, as_json: bool) -> None:
    if as_json:
        print_json([found])
        return
    sides = [_told(found.one), _told(found.other)]
    rows = [(name, escape(one), escape(sides[1][name])) for name, one in sides[0].items()]
    out = tables.console()
    out.print(tables.table(("", escape(found.one.id), escape(found.other.id)), rows))
    if found.differences:
        rows = [(escape(d.path), escape(_json(d.one)), escape(_json(d.other)))
                for d in found.differences]  # fmt: skip
        out.print("The results differ:")
        out.print(tables.table(("at", "one", "other"), rows))
    out.print("Both came to the same." if found.same else "They did not come to the same.")


def _told(outcome: Outcome) -> dict[str, str]:
    error = outcome.error
    return {
        "state": outcome.state,
        "attempts": str(outcome.attempts),
        "crashes": str(outcome.crashes),
        "took": "-" if outcome.seconds is None else f"{outcome.seconds:.3f} s",
        "error": f"{error.type}: {error.message}" if error else "-",
        "result": "-" if outcome.result is None else _json(outcome.result)[:200],
    }


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
