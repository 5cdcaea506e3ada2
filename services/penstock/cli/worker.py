"""`penstock worker`: runs an application's worker, in one process or in several supervised ones.

Never holds a handler of its own.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from typing import Any

from penstock.cli.supervising import Supervisor
from penstock.client import Worker
from penstock.contracts.errors import StartupError
from penstock.infra.settings import Settings


def add_to(commands: Any) -> None:
    """Add the command to the program's parser."""
    parser = commands.add_parser(
        "worker",
        help="run an application's worker",
        description="Run the Worker that a module of your application holds, until SIGTERM or "
        "Ctrl-C: it then takes no new job and ends or gives back those in hand. A second one "
        "gives them back at once.",
    )
    parser.add_argument(
        "target", metavar="MODULE:WORKER", help="where the Worker is, such as myapp.jobs:worker"
    )
    parser.add_argument("--queues", help="in place of its own queues: names, comma-separated")
    parser.add_argument("--concurrency", type=int, help="in place of its own: jobs at a time")
    parser.add_argument(
        "--processes", type=int, default=1, help="worker processes, each with that concurrency"
    )
    parser.add_argument(
        "--reload", action="store_true", help="start again when a .py file here changes"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, settings: Settings) -> int:
    """Run it. Raises StartupError for what is no worker, Unavailable without a system."""
    if options.processes < 1:
        raise StartupError(f"--processes is {options.processes}; at least one has to run.")
    logging.basicConfig(level=settings.log_level.upper(), format=FORMAT, stream=sys.stderr)
    if options.processes == 1 and not options.reload:
        worker_of(options).run()
        return 0
    if not options.reload:
        worker_of(options)  # so that a wrong name is told once, and not by each process
    return Supervisor(_command(options), options.processes, reload=options.reload).run()


FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def worker_of(options: argparse.Namespace) -> Worker:
    """The worker that the options name, with their values. Raises StartupError."""
    worker = found(options.target)
    queues = options.queues.split(",") if options.queues is not None else None
    try:
        worker.configure(
            queues=[queue.strip() for queue in queues if queue.strip()] if queues else queues,
            concurrency=options.concurrency,
        )
    except ValueError as error:
        raise StartupError(str(error)) from error
    return worker


def found(target: str) -> Worker:
    """The Worker at `module:attribute`, imported from here. Raises StartupError."""
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise StartupError(
            f"{target!r} names no worker; write module:attribute, as in jobs:worker."
        )
    if (here := os.getcwd()) not in sys.path:  # noqa: PTH109 - what goes into sys.path is a text
        sys.path.insert(0, here)
    try:
        value: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise StartupError(
            f"There is no module {error.name!r} here ({here}); run this where it can be imported."
        ) from error
    for name in attribute.split("."):
        if not hasattr(value, name):
            raise StartupError(f"The module {module_name!r} has no {attribute!r}.")
        value = getattr(value, name)
    if not isinstance(value, Worker):
        kind = type(value).__name__
        raise StartupError(f"{target!r} is no Worker but of type {kind}; name the Worker.")
    return value


def _command(options: argparse.Namespace) -> list[str]:
    """What runs one of the processes."""
    command = [sys.executable, "-m", "penstock.cli", "worker", options.target]
    if options.queues is not None:
        command += ["--queues", options.queues]
    if options.concurrency is not None:
        command += ["--concurrency", str(options.concurrency)]
    return command
