"""The six services as they are built, to read what they show. Never connects to anything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from penstock.cli.builders import builders
from penstock.contracts.subjects import Subjects
from penstock.infra.bus import Bus
from penstock.infra.nats_client import NatsClient
from penstock.infra.service import Frame, Service
from penstock.infra.settings import Settings


@asynccontextmanager
async def built_services() -> AsyncIterator[list[Service[Any]]]:
    """Every service, with all that hangs on it, for as long as the block lasts."""
    with TemporaryDirectory(prefix="penstock-schemas-") as directory:
        frame = Frame(
            bus=Bus(NatsClient(), Subjects()),
            settings=Settings(data=directory),
            views=Path(directory),
            secret="0" * 64,
        )
        services = [build(frame) for build in builders().values()]
        try:
            yield services
        finally:
            for service in services:
                service.model.close()
