"""`penstock demo`: starts the system unless one runs here, and runs the example application."""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from penstock.client.discovery import running_system
from penstock.contracts.errors import StartupError
from penstock.infra.data_directory import create_private_directory, usable
from penstock.infra.settings import Settings

START = 120.0  # seconds until the system has to be up
POLL = 0.05


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "demo",
        help="run the example application on files",
        description="Transcribes or parses files, indexes and exports them, and shows what "
        "happens. Starts the system for as long as it takes, unless one runs here already.",
    )
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help=".wav, .srt, .vtt, .txt or .md; without any, the Markdown files below this directory",
    )
    parser.add_argument("--query", help="what to search for at the end")
    parser.add_argument(
        "--out", type=Path, default=Path("exports"), help="where exports go (%(default)s)"
    )
    parser.add_argument(
        "--user", default="demo", help="whose notifications these are (%(default)s)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, settings: Settings) -> int:
    """See the module."""
    try:
        from penstock.demo.app import run as run_demo
        from penstock.demo.display import Display
        from penstock.demo.files import markdown_here, source_file
    except ImportError as error:
        raise StartupError(f"The demo needs {error.name}: pip install 'penstock[all]'.") from error
    paths = options.files or markdown_here(Path.cwd())
    if not paths:
        raise StartupError("There is no Markdown file below this directory; name some files.")
    files = [source_file(path) for path in dict.fromkeys(paths)]
    display = Display(Console())
    with system(settings):
        return asyncio.run(
            run_demo(
                files, query=options.query, out=options.out, user=options.user, display=display
            )
        )


@contextmanager
def system(settings: Settings) -> Iterator[None]:
    """A system that runs while the block does: the one that is there, or one of our own."""
    if os.environ.get("PENSTOCK_NATS_URL") or running_system(os.environ):
        yield
        return
    log = settings.data_path / "up.log"
    with usable(settings.data_path):
        create_private_directory(settings.data_path)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "penstock.cli", "up", "--stop-with-parent"],
            env={"PENSTOCK_HTTP_PORT": "0", **os.environ},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_for(process, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(settings.drain_seconds + 30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START
    while running_system(os.environ) is None:
        if process.poll() is not None:
            said = log.read_text(errors="replace").strip().splitlines()
            reason = said[-1].removeprefix("penstock: ") if said else "it said nothing"
            raise StartupError(f"The system did not start: {reason}")
        if time.monotonic() > deadline:
            raise StartupError(f"The system did not start within {START:.0f} s; see {log}.")
        time.sleep(POLL)
