"""`penstock verify SERVICE`: whether a service's view is what its events say."""

from __future__ import annotations

import argparse
import asyncio

import msgspec

from penstock.cli.connecting import add_service
from penstock.cli.instances import ask, raise_failed, spent
from penstock.contracts.views import Verified, Verify
from penstock.infra.settings import Settings


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "verify",
        help="compare a service's view with its events",
        description="Has every running instance of the service fold the log from the start beside "
        "its view, and compares the two at one moment. Exit status 1 if they differ.",
    )
    add_service(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, settings: Settings) -> int:
    """See the module."""
    return asyncio.run(_verify(options.service, settings))


async def _verify(service: str, settings: Settings) -> int:
    reports = [report async for report in ask(settings, service, "verify", Verify())]
    wrong = 0
    for report in reports:
        if not report.problem:
            verified = msgspec.json.decode(report.data, type=Verified)
            _show(f"{service} at {report.instance}", verified)
            wrong += verified.count
    raise_failed(reports)
    return 1 if wrong else 0


def _show(where: str, verified: Verified) -> None:
    held = f" ({verified.held:,} more held back)" if verified.held else ""
    done = spent(verified.events, verified.seconds) + held
    if not verified.count:
        print(
            f"{where} is as its events say: {verified.aggregates:,} "
            f"aggregate{'s' * (verified.aggregates != 1)} at {verified.sequence}, {done}."
        )
        return
    print(
        f"{where} differs from its events in {verified.count:,} rows at {verified.sequence} "
        f"({done}); `penstock rebuild` makes the view anew."
    )
    for one in verified.differences:
        print(f"  {one.table} {one.key}")
        print(f"    in the view    {_row(one.live)}")
        print(f"    by its events  {_row(one.folded)}")
    if left := verified.count - len(verified.differences):
        print(f"  … and {left:,} more.")


def _row(text: str | None) -> str:
    return "no such row" if text is None else text
