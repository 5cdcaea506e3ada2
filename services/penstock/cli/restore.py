"""`penstock restore`: a system from a backup, where there is none yet."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from penstock.cli.backup import summary
from penstock.cli.transfer_display import display
from penstock.client.discovery import without_password
from penstock.contracts.errors import StartupError
from penstock.infra.backup import (
    Manifest,
    Restore,
    Tell,
    check_files,
    read_manifest,
    restore_here,
)
from penstock.infra.bus import Bus
from penstock.infra.settings import Settings


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "restore",
        help="make a system from a backup",
        description="Checks the backup in DIR and makes its streams: in the data directory, on "
        "which nothing may run and which may have no streams yet; or with PENSTOCK_NATS_URL on "
        "that server, which may have none of this system. Then start it as usual: views are "
        "folded anew.",
    )
    parser.add_argument("directory", metavar="DIR", type=Path, help="what `penstock backup` made")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, settings: Settings) -> int:
    """See the module."""
    directory = options.directory.expanduser().absolute()
    try:
        manifest = asyncio.run(_restore(directory, settings))
    except OSError as error:
        raise StartupError(
            f"{error.filename or directory} cannot be read or written ({error.strerror})."
        ) from error
    where = without_password(settings.nats_url) if settings.nats_url else settings.data_path
    print(f"{summary(directory, manifest)}, restored to {where}")
    return 0


async def _restore(directory: Path, settings: Settings) -> Manifest:
    manifest = read_manifest(directory)
    with display() as tell:
        check_files(directory, manifest, tell)
        if settings.nats_url:
            await _to_server(directory, settings, manifest, tell)
        else:
            await restore_here(settings, directory, manifest, tell)
    return manifest


async def _to_server(directory: Path, settings: Settings, manifest: Manifest, tell: Tell) -> None:
    creds = Path(settings.nats_creds) if settings.nats_creds else None
    async with await Bus.connect(
        settings.nats_url, prefix=settings.prefix, name="penstock-restore", creds=creds
    ) as bus:
        await Restore(bus, directory, manifest, tell).run(replicas=settings.replicas)
