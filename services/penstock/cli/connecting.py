"""How a command reaches the system that runs here, or the one that the settings name."""

from __future__ import annotations

import argparse
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from penstock.client.discovery import connection_target
from penstock.contracts.errors import StartupError
from penstock.contracts.subjects import SERVICES
from penstock.infra.bus import Bus
from penstock.infra.settings import Settings

TIMEOUT = 10.0  # seconds that each request may take


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Bus]:
    """A connection to the system. Raises Unavailable with what to do if there is none."""
    target = connection_target(settings.nats_url or None, os.environ)
    async with await Bus.connect(
        target.nats_url,
        prefix=settings.prefix,
        name="penstock-cli",
        creds=target.creds_path,
        timeout=TIMEOUT,
    ) as bus:
        yield bus


def service_named(name: str) -> str:
    """`name`, if it is a service. Raises StartupError."""
    if name not in SERVICES:
        raise StartupError(f"There is no service {name!r}; there are {', '.join(SERVICES)}.")
    return name


def add_service(parser: argparse.ArgumentParser) -> None:
    """Add the argument SERVICE to a command's parser."""
    parser.add_argument("service", metavar="SERVICE", type=service_named, help=", ".join(SERVICES))
