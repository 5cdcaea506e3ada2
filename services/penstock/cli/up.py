"""`penstock up`: the whole system in one process, with a nats-server of its own."""

from __future__ import annotations

import argparse
import asyncio
import os
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from penstock.cli.builders import builders
from penstock.cli.running import run_host
from penstock.client.discovery import RunningSystem, without_password
from penstock.infra.data_directory import DataDirectory
from penstock.infra.host import Host
from penstock.infra.nats_server import EmbeddedNats
from penstock.infra.settings import Settings


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "up",
        help="run everything here, until Ctrl-C",
        description="Runs all six services and their own nats-server in this process tree, with "
        "the data under ./.penstock, and stays. With PENSTOCK_NATS_URL it uses that server.",
    )
    parser.add_argument(
        "--stop-with-parent", action="store_true", help="stop when the parent process ends"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, settings: Settings) -> int:
    """See the module."""
    asyncio.run(up(settings, with_parent=options.stop_with_parent))
    return 0


async def up(settings: Settings, *, with_parent: bool) -> None:
    """Run the system in its data directory until a signal. Raises StartupError."""
    built = builders()
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(DataDirectory(settings.data_path))
        server: EmbeddedNats | None = None
        if not settings.nats_url:
            server = await stack.enter_async_context(_server(settings, directory.path))
        nats_url = server.url if server else settings.nats_url
        host = Host(settings, nats_url, built, directory.path / "views")

        def ready() -> None:
            directory.announce(
                RunningSystem(
                    pid=os.getpid(),
                    started=datetime.now(UTC),
                    nats_url=nats_url,
                    http_url=host.http_url,
                    version=version("penstock"),
                )
            )
            _say(directory.path, nats_url, host.http_url)

        await run_host(
            host,
            settings,
            ready=ready,
            failed=server.wait_failed if server else None,
            with_parent=with_parent,
        )


def _server(settings: Settings, data: Path) -> EmbeddedNats:
    return EmbeddedNats(
        data / "nats",
        port=settings.nats_port,
        durability=settings.durability,
        binary=settings.nats_server or None,
    )


def _say(data: Path, nats_url: str, http_url: str) -> None:
    print(
        f"Penstock {version('penstock')} is up: all six services.\n"
        f"  HTTP  {http_url}  (/openapi.json, /health/ready, /metrics)\n"
        f"  NATS  {without_password(nats_url)}  (Penstock() finds it, with its password, "
        f"in {data.parent} and below)\n"
        f"  data  {data}\n"
        "Ctrl-C stops it; what is stored stays.",
        flush=True,
    )
