"""Fixtures: the exports service in a running system, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock.client import Penstock
from penstock.exports.service import build
from penstock.infra.host import Host
from penstock.infra.testing import running_system


@pytest.fixture
async def system(nats_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[Host]:
    """The running system; `system.http_url`."""
    async with running_system(nats_url, prefix, tmp_path, {"exports": build}) as host:
        yield host


@pytest.fixture
async def ps(system: Host, nats_url: str, prefix: str) -> AsyncIterator[Penstock]:
    """A client of the system."""
    async with Penstock(nats_url, prefix=prefix, actor="tester", timeout=60) as client:
        yield client
