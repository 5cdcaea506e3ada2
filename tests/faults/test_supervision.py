"""The server killed, and each consumer deleted: everything is consuming again within seconds.

Goes through every durable consumer, follower, subscription, watch and socket that there is; one
that is new and unknown here fails the inventory.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from penstock.client.penstock import Penstock
from penstock.contracts.errors import Unavailable
from penstock.contracts.jobs import PRIORITIES
from penstock.contracts.subjects import SERVICES
from penstock.infra.bus import Bus
from penstock.infra.nats_server import EmbeddedNats
from penstock.infra.streams import streams
from support.whole_system import QUEUE, Probe, WholeSystem, whole_system

AGAIN = 6.0  # seconds within which everything consumes again
DURABLES = {
    *(f"{service}-commands" for service in SERVICES),
    *(f"{QUEUE}-{priority}" for priority in PRIORITIES),
    "cache-changes",
    "exports-renderer",
    "jobs-due",
}


async def consumers(ps: Penstock) -> dict[str, str]:
    """The stream of each consumer on the server, by its name."""
    bus = ps.session.bus
    found: dict[str, str] = {}
    for config in streams(bus.subjects):
        names = (await bus.api(f"CONSUMER.NAMES.{config['name']}"))["consumers"] or []
        found |= dict.fromkeys(names, config["name"])
    return found


async def answered(url: str) -> float:
    """When a fresh connection succeeded."""
    async with asyncio.timeout(30):
        while True:
            try:
                async with await Bus.connect(url, timeout=1):
                    return time.monotonic()
            except Unavailable:
                await asyncio.sleep(0.01)


async def seconds_until(probe: Probe, since: float) -> float:
    async with asyncio.timeout(30):
        await probe()
    return time.monotonic() - since


async def test_every_consumer_is_known_here(nats_url: str, prefix: str, tmp_path: Path) -> None:
    async with whole_system(nats_url, prefix, tmp_path) as system:
        found = await consumers(system.ps)
        assert found.keys() >= DURABLES
        # The others are the views' own, one for each service, named by the server.
        others = sorted(stream for name, stream in found.items() if name not in DURABLES)
        assert others == sorted(map(system.ps.session.bus.subjects.event_stream, SERVICES))
        assert system.probes.keys() >= DURABLES


async def test_everything_consumes_again_soon_after_the_server_was_killed(
    fresh_nats: EmbeddedNats, prefix: str, tmp_path: Path
) -> None:
    async with whole_system(fresh_nats.url, prefix, tmp_path / "system") as system:
        os.kill(fresh_nats.pid, signal.SIGKILL)
        since = await answered(fresh_nats.url)
        times = await asyncio.gather(
            *(seconds_until(probe, since) for probe in system.probes.values())
        )
        late = {n: t for n, t in zip(system.probes, times, strict=True) if t > AGAIN}
        assert not late, times
        assert system.host.problems() == {"nats": [], **{name: [] for name in SERVICES}}


async def test_each_consumer_that_is_deleted_is_made_again_soon(
    nats_url: str, prefix: str, tmp_path: Path
) -> None:
    async with whole_system(nats_url, prefix, tmp_path) as system:
        await asyncio.gather(
            *(
                deleted(system, name, stream)
                for name, stream in (await consumers(system.ps)).items()
            )
        )
        assert system.host.problems() == {"nats": [], **{name: [] for name in SERVICES}}


async def deleted(system: WholeSystem, name: str, stream: str) -> None:
    await system.ps.session.bus.api(f"CONSUMER.DELETE.{stream}.{name}")
    if name in DURABLES:
        probe = system.probes[name]
    else:
        service = stream.lower().rpartition("_")[2]
        probe = system.probes[f"{service}-view"]
    took = await seconds_until(probe, time.monotonic())
    assert took < AGAIN, f"{name} took {took:.1f} s"
