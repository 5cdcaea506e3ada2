"""`penstock serve`: some of the services, against a NATS server that runs elsewhere."""

from __future__ import annotations

import argparse
import asyncio
from importlib.metadata import version

from penstock.cli.builders import builders
from penstock.cli.running import run_host
from penstock.client.discovery import without_password
from penstock.contracts.errors import StartupError
from penstock.contracts.subjects import SERVICES
from penstock.infra.data_directory import DataDirectory
from penstock.infra.host import Host
from penstock.infra.settings import Settings


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "serve",
        help="run some services against PENSTOCK_NATS_URL",
        description="Runs the named services in this process. Several instances of a service "
        "share its commands; each keeps its own view, in PENSTOCK_DATA.",
    )
    parser.add_argument("services", nargs="+", metavar="SERVICE", help=", ".join(SERVICES))
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, settings: Settings) -> int:
    """See the module."""
    if not settings.nats_url:
        raise StartupError(
            "`penstock serve` needs PENSTOCK_NATS_URL, the address of a NATS server with "
            "JetStream; to run everything here without one, use `penstock up`."
        )
    asyncio.run(_serve(options.services, settings))
    return 0


async def _serve(names: list[str], settings: Settings) -> None:
    built = builders(names)
    with DataDirectory(settings.data_path) as directory:
        host = Host(settings, settings.nats_url, built, directory.path / "views")

        def ready() -> None:
            print(
                f"Penstock {version('penstock')} serves {', '.join(built)} at {host.http_url}, "
                f"NATS {without_password(settings.nats_url)}",
                flush=True,
            )

        await run_host(host, settings, ready=ready)
