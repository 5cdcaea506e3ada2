"""`penstock backup`: a copy of the running system in a directory, and whether one is sound."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from penstock.cli.connecting import connected
from penstock.cli.transfer_display import display
from penstock.contracts.errors import StartupError
from penstock.infra.backup import Backup, Manifest, check, read_manifest
from penstock.infra.settings import Settings


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "backup",
        help="copy the running system into a directory",
        description="Copies all events, queued commands, jobs' items and timers, changes, dead "
        "letters and stored files into DIR while the system runs, then restores the copy on a "
        "server of its own and compares every message with the original. Secrets, credentials and "
        "cache entries are not in it.",
    )
    parser.add_argument("directory", metavar="DIR", type=Path, help="must not exist, or be empty")
    parser.add_argument("--no-verify", action="store_true", help="do not compare afterwards")
    parser.add_argument(
        "--check", action="store_true", help="instead of making one, verify the backup in DIR"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, settings: Settings) -> int:
    """See the module."""
    directory = options.directory.expanduser().absolute()
    try:
        if options.check:
            manifest, how = asyncio.run(_check(directory, settings)), "sound"
        else:
            manifest = asyncio.run(_take(directory, settings, verify=not options.no_verify))
            how = "not verified" if options.no_verify else "verified"
    except OSError as error:
        raise StartupError(
            f"{error.filename or directory} cannot be used ({error.strerror}); "
            "make room there, or name another directory."
        ) from error
    print(f"{summary(directory, manifest)}, {how}")
    return 0


async def _take(directory: Path, settings: Settings, *, verify: bool) -> Manifest:
    binary = settings.nats_server or None
    with display() as tell:
        async with connected(settings) as bus:
            return await Backup(bus, directory, tell, binary=binary).take(verify=verify)


async def _check(directory: Path, settings: Settings) -> Manifest:
    manifest = read_manifest(directory)
    with display() as tell:
        await check(directory, manifest, tell, settings.nats_server or None)
    return manifest


def summary(directory: Path, manifest: Manifest) -> str:
    """What there is in a backup, in one line."""
    messages = sum(
        copy.contents.messages if copy.contents else copy.state["messages"]
        for copy in manifest.streams
    )
    return (
        f"{directory}: {messages:,} messages of {len(manifest.streams)} streams, "
        f"{manifest.size / 1e6:,.1f} MB, begun {manifest.begun:%Y-%m-%d %H:%M:%S %Z}"
    )
