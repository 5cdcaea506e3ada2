"""The nats-servers that tests get: how they end, and how they are kept apart."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from urllib.parse import urlsplit

import nats
import pytest

from penstock.infra.nats_server import EmbeddedNats
from penstock.infra.testing import running_nats, running_system, shared_nats
from penstock.progress.service import build


async def connects(url: str) -> bool:
    client = await nats.connect(url, allow_reconnect=False)
    await client.close()
    return True


def refused(url: str) -> bool:
    address = urlsplit(url)
    try:
        with socket.create_connection((address.hostname, address.port), timeout=5):
            return False
    except ConnectionRefusedError:
        return True


async def test_a_running_server_ends_with_its_block_also_when_the_test_fails(
    tmp_path: Path,
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with running_nats(tmp_path) as url:
            assert await connects(url)
            raise ZeroDivisionError
    assert refused(url)


async def test_the_same_directory_gives_the_same_streams(tmp_path: Path) -> None:
    for expected in (0, 1):
        async with running_nats(tmp_path) as url:
            client = await nats.connect(url)
            info = await client.jetstream().add_stream(name="s", subjects=["s"])
            assert info.state.messages == expected
            await client.jetstream().publish("s", b"")
            await client.close()


def test_a_shared_server_serves_one_event_loop_after_the_other() -> None:
    with shared_nats() as url:
        assert asyncio.run(connects(url))
        assert asyncio.run(connects(url))
    assert refused(url)


def test_every_test_has_a_prefix_of_its_own(prefix: str) -> None:
    assert prefix.isalnum()
    assert prefix[0] == "t"


async def test_the_server_of_the_session_answers(nats_url: str) -> None:
    assert await connects(nats_url)


async def test_a_system_whose_server_is_gone_still_ends_in_good_order(
    fresh_nats: EmbeddedNats, prefix: str, tmp_path: Path
) -> None:
    async with running_system(
        fresh_nats.url, prefix, tmp_path / "system", {"progress": build}
    ) as host:
        await fresh_nats.stop()
        async with asyncio.timeout(60):
            while not host.problems()["nats"]:
                await asyncio.sleep(0.02)
