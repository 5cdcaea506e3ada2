"""Provisioning on a real server: idempotent, growing, never shrinking."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from penstock.contracts.errors import StartupError
from penstock.infra.bus import Bus
from penstock.infra.streams import differs, provision, streams


@pytest.fixture
async def bus(nats_url: str, prefix: str) -> AsyncIterator[Bus]:
    async with await Bus.connect(nats_url, prefix=prefix) as connected:
        yield connected


async def config_of(bus: Bus, name: str) -> dict[str, object]:
    config: dict[str, object] = (await bus.api(f"STREAM.INFO.{name}"))["config"]
    return config


async def test_provisioning_makes_every_stream_once(bus: Bus) -> None:
    wanted = streams(bus.subjects)
    assert await provision(bus) == [config["name"] for config in wanted]
    assert await provision(bus) == []
    for config in wanted:
        assert differs(await config_of(bus, config["name"]), config) == []


async def test_what_somebody_added_is_kept_and_what_is_missing_is_added(bus: Bus) -> None:
    await provision(bus)
    name = bus.subjects.stream("dead")
    config = await config_of(bus, name)
    extra = f"{bus.subjects.prefix}-extra.>"
    config["subjects"] = [extra]
    await bus.api(f"STREAM.UPDATE.{name}", config)
    assert await provision(bus) == [name]
    assert (await config_of(bus, name))["subjects"] == [extra, f"{bus.subjects.prefix}.dead.>"]


async def test_a_stream_that_keeps_more_than_wanted_is_not_shrunk(bus: Bus) -> None:
    await provision(bus)
    name = bus.subjects.stream("changes")
    config = await config_of(bus, name)
    await bus.api(f"STREAM.UPDATE.{name}", {**config, "max_age": 0})
    with pytest.raises(StartupError, match=rf"{name} exists and its max_age is unlimited"):
        await provision(bus)
    assert (await config_of(bus, name))["max_age"] == 0


async def test_a_stream_of_another_kind_is_not_replaced(bus: Bus) -> None:
    wanted = streams(bus.subjects)[0]
    await bus.api(f"STREAM.CREATE.{wanted['name']}", {**wanted, "storage": "memory"})
    with pytest.raises(StartupError, match="its storage is 'memory', not 'file'"):
        await provision(bus)


@pytest.mark.parametrize("queue", ["cmd", "work"])
async def test_what_is_done_is_removed_by_the_servers_of_a_cluster_or_by_the_services(
    bus: Bus, queue: str
) -> None:
    name = bus.subjects.stream(queue)
    wanted = {config["name"]: config for config in streams(bus.subjects, clustered=True)}[name]
    assert wanted["retention"] == "workqueue"
    await provision(bus)
    assert (await config_of(bus, name))["retention"] == "limits"


@pytest.mark.parametrize("queue", ["cmd", "work"])
async def test_what_was_made_a_queue_of_its_server_stays_one(bus: Bus, queue: str) -> None:
    name = bus.subjects.stream(queue)
    wanted = {config["name"]: config for config in streams(bus.subjects)}[name]
    await bus.api(f"STREAM.CREATE.{name}", {**wanted, "retention": "workqueue"})
    assert name not in await provision(bus)
    found = await config_of(bus, name)
    assert found["retention"] == "workqueue"
    assert differs(found, wanted) == []
