"""Restores into a data directory, with a nats-server of its own, all or nothing.

Never overwrites streams: they are made in a place beside, which then takes its name.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from penstock.infra.backup.manifest import BackupError, Manifest, Tell
from penstock.infra.backup.restoring import Restore
from penstock.infra.bus import Bus
from penstock.infra.data_directory import DataDirectory, sync
from penstock.infra.nats_server import EmbeddedNats
from penstock.infra.nats_server.configuration import Files
from penstock.infra.settings import Settings

UNFINISHED = "nats.restoring"
REPLACED = "nats.replaced"


async def restore_here(settings: Settings, directory: Path, manifest: Manifest, tell: Tell) -> None:
    """Restore into `settings.data_path`, on which nothing may run and which has no streams.

    Until the end it is as it was; what an interrupted restore left is removed. The credentials of
    its server stay, the views go. Raises StartupError, BackupError, OSError, and as
    `Restore.run`.
    """
    with DataDirectory(settings.data_path) as data:
        there = Files(data.path / "nats")
        _check_empty(there)
        place = data.path / UNFINISHED
        shutil.rmtree(place, ignore_errors=True)
        await _restore(settings, place, directory, manifest, tell)
        _keep_identity(there, Files(place))
        _sync_tree(place)
        _replace(data.path, there.directory, place)


async def _restore(
    settings: Settings, place: Path, directory: Path, manifest: Manifest, tell: Tell
) -> None:
    # Credentials and port of its own: no application may find it before it is whole. It need not
    # sync each message, since all is synced at the end.
    binary = settings.nats_server or None
    async with (
        EmbeddedNats(place, durability="os", binary=binary) as server,
        await Bus.connect(server.url, prefix=settings.prefix, name="penstock-restore") as bus,
    ):
        await Restore(bus, directory, manifest, tell).run()


def _check_empty(files: Files) -> None:
    if any(files.store.glob("*/streams/*")):
        raise BackupError(
            f"{files.directory.parent} has streams already, and nothing is overwritten: move it "
            "away, or set PENSTOCK_DATA to another directory."
        )


def _keep_identity(there: Files, place: Files) -> None:
    place.identity.unlink()
    if there.identity.exists():
        shutil.copy2(there.identity, place.identity)


def _sync_tree(place: Path) -> None:
    for path in place.rglob("*"):
        if path.is_dir() or path.is_file():
            sync(path)
    sync(place)


def _replace(data: Path, there: Path, place: Path) -> None:
    replaced = data / REPLACED
    shutil.rmtree(replaced, ignore_errors=True)
    # Their own stamp would have them folded anew as well, should we be killed in between.
    shutil.rmtree(data / "views", ignore_errors=True)
    if there.exists():
        there.rename(replaced)
    place.rename(there)
    sync(data)
    shutil.rmtree(replaced, ignore_errors=True)
