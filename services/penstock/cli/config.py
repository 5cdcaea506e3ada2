"""`penstock config`: every setting, its value and what it is for."""

from __future__ import annotations

import argparse
import os

import msgspec
from rich.console import Console
from rich.table import Column, Table

from penstock.infra.settings import Settings, descriptions


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "config",
        help="print every setting and its value",
        description="Prints every setting: the environment variable, its present value and what "
        "it is for. Secrets are not shown.",
    )
    parser.add_argument("--json", action="store_true", help="variable to value, as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, settings: Settings) -> int:
    """See the module."""
    shown = settings.shown()
    if options.json:
        print(msgspec.json.encode(shown).decode())
        return 0
    table = Table(
        Column("variable", no_wrap=True), "value", "what it is for", box=None, pad_edge=False
    )
    for variable, text in descriptions().items():
        value = "-" if shown[variable] == "" else str(shown[variable])
        style = "bold" if variable in os.environ else ""
        table.add_row(variable, value, text, style=style)
    Console().print(table)
    return 0
