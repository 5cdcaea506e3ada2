"""Fixtures for every test: real nats-servers, and a prefix that keeps tests apart on one."""

from __future__ import annotations

import random
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from penstock.infra.nats_server import EmbeddedNats
from penstock.infra.testing import shared_nats

# How long an example takes says more of the machine than of what is tested.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rounds", type=int, help="how often a fault test injects its fault (each has its default)"
    )
    parser.addoption(
        "--jobs", type=int, default=3000, help="how many jobs the fault test of jobs enqueues"
    )
    parser.addoption("--seed", type=int, help="repeats what a fault test did by chance")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, or one core would wait for the other at the end."""
    items.sort(key=lambda item: "faults" not in item.path.parts)


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    """How often to inject a fault: few times in CI, `--rounds` by hand."""
    return int(request.config.getoption("--rounds") or 5)


@pytest.fixture
def kill_rounds(request: pytest.FixtureRequest) -> int:
    """The same for kills that leave the rest of the system running, which are soon over."""
    return int(request.config.getoption("--rounds") or 100)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Where chance begins: another one each time, or `--seed`."""
    given = request.config.getoption("--seed")
    return random.randrange(2**32) if given is None else int(given)


@pytest.fixture(scope="session")
def nats_url() -> Iterator[str]:
    """The URL of the one nats-server of this test session: begin every subject with `prefix`."""
    with shared_nats() as url:
        yield url


@pytest.fixture
def prefix() -> str:
    """A prefix for subjects and streams that no other test has, such as `t3f2a1`."""
    return f"t{uuid.uuid4().hex[:8]}"


@pytest.fixture
async def fresh_nats(tmp_path: Path) -> AsyncIterator[EmbeddedNats]:
    """A nats-server for this test alone, to be killed or filled: `fresh_nats.url`, `.pid`."""
    async with EmbeddedNats(tmp_path / "nats", durability="os") as server:
        yield server
