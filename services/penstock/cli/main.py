"""Parses the command line, and turns every expected failure into one line and an exit status."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from penstock.cli import (
    backup,
    config,
    dead,
    demo,
    doctor,
    erase,
    flow,
    history,
    jobs,
    queues,
    rebuild,
    restore,
    schedules,
    serve,
    up,
    verify,
    worker,
    workers,
    workflows,
)
from penstock.contracts.errors import PenstockError
from penstock.infra.settings import read_settings

COMMANDS = (
    up,
    serve,
    worker,
    demo,
    history,
    flow,
    erase,
    dead,
    jobs,
    workers,
    queues,
    schedules,
    workflows,
    rebuild,
    verify,
    backup,
    restore,
    config,
    doctor,
)


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; each command's module adds its own."""
    root = argparse.ArgumentParser(
        prog="penstock",
        description="Progress, notifications, jobs, exports, caching and search over NATS "
        "JetStream, each an event-sourced service.",
        epilog="Settings are environment variables: see `penstock config`.",
    )
    root.add_argument("--version", action="version", version=f"penstock {version('penstock')}")
    commands = root.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add_to(commands)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status: 0 done, 1 failed, 2 wrongly called."""
    try:
        options = parser().parse_args(arguments)
        status: int = options.run(options, read_settings(os.environ))
    except PenstockError as error:
        print(f"penstock: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status
