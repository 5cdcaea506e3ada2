"""`penstock rebuild SERVICE`: a service's view folded anew, while the present one answers."""

from __future__ import annotations

import argparse
import asyncio

import msgspec

from penstock.cli.connecting import add_service
from penstock.cli.instances import ask, raise_failed, spent
from penstock.contracts.control import Report
from penstock.contracts.views import Rebuild, Rebuilt
from penstock.infra.settings import Settings


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "rebuild",
        help="fold a service's view anew from its events",
        description="Has every running instance of the service fold its view anew from the start "
        "of the log. The present view answers until the new one has caught up.",
    )
    add_service(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, settings: Settings) -> int:
    """See the module."""
    asyncio.run(_rebuild(options.service, settings))
    return 0


async def _rebuild(service: str, settings: Settings) -> None:
    reports = [report async for report in ask(settings, service, "rebuild", Rebuild())]
    for report in reports:
        if not report.problem:
            print(f"{service} at {report.instance} is rebuilt: {_said(report)}")
    raise_failed(reports)


def _said(report: Report) -> str:
    rebuilt = msgspec.json.decode(report.data, type=Rebuilt)
    held = f", and {rebuilt.held:,} held back" if rebuilt.held else ""
    return f"{spent(rebuilt.events, rebuilt.seconds)}{held}, up to {rebuilt.sequence}."
