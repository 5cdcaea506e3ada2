"""Three nats-servers: any one killed, frozen or cut off under load, and nothing is lost.

nats-server itself waits 4 to 9 s, by chance, before it elects a new leader for one that was killed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from penstock.cli.replicas import replica_finding
from penstock.client import Penstock
from penstock.contracts.errors import Conflict, Unavailable
from penstock.infra.bus import Bus
from penstock.infra.connection import PING_INTERVAL, PINGS_UNANSWERED
from penstock.infra.event_log import JetStreamEventLog
from penstock.infra.host import Build, Host
from penstock.infra.nats_server.cluster import Cluster, Node, running_cluster
from penstock.infra.retrying import until_available
from penstock.infra.streams import ensure, event_stream, streams
from penstock.infra.testing import running_system
from penstock.jobs.service import build as build_jobs
from penstock.progress.service import build as build_progress
from support.clusters import PATIENCE, Appending, caught_up, replicas
from support.events import event

RAW = "notifications"  # whose events nobody folds here
ELECTION = 9.0  # seconds until the server begins an election, at most
PAUSE = 5.0  # seconds in which appends may rest when another server than their leader dies
SILENCE = PING_INTERVAL * (PINGS_UNANSWERED + 1.0)  # seconds until a client leaves a server
READY = 30.0  # seconds until all parts of a host have heard that all is well again
BUSY = 2.0  # seconds that a busy machine may add

pytestmark = [
    pytest.mark.timeout(0),  # bounded by the patience of each wait
    # The client library forgets to close the socket of a server that takes it and says nothing.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@asynccontextmanager
async def load(cluster: Cluster, prefix: str, writers: int = 3) -> AsyncIterator[Appending]:
    """Three writers on each of some aggregates, until the block ends."""
    async with await Bus.connect(cluster.url, prefix=prefix) as bus:
        appending = Appending(JetStreamEventLog(bus, RAW, durability="os"))
        tasks = [
            asyncio.create_task(appending.append(f"a{n}", f"{n}-{w}"))
            for n in range(4)
            for w in range(writers)
        ]
        try:
            await appending.goes_on()
            yield appending
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended
        await appending.check()


class Commanding:
    """Clients that send commands of two services without end; what they were told."""

    def __init__(self) -> None:
        self.progresses: list[str] = []
        self.jobs: list[str] = []
        self.wait = 0.0

    async def send(self, ps: Penstock, name: str) -> None:
        number = 0
        while True:
            number += 1
            id, began = f"{name}-{number}", time.monotonic()
            await ps.progress.create(id)
            await ps.progress.update(id, 50.0)
            self.progresses.append(id)
            await ps.jobs.enqueue("nothing", id=id)
            self.jobs.append(id)
            self.wait = max(self.wait, time.monotonic() - began)

    async def check(self, host: Host, ps: Penstock) -> None:
        """Each has its effect once, in the log and in the view."""
        for service, ids, count in (("progress", self.progresses, 2), ("jobs", self.jobs, 1)):
            log = JetStreamEventLog(ps.session.bus, service)
            for id in ids:
                found = (await log.load(id)).events
                assert [record.event.version for record in found] == list(range(1, count + 1)), id
        assert (await ps.progress.get(self.progresses[-1])).percent == 50.0
        assert (await ps.jobs.get(self.jobs[-1])).state == "pending"


@asynccontextmanager
async def commands(cluster: Cluster, prefix: str, directory: Path) -> AsyncIterator[Commanding]:
    """Two services, and three clients who send commands until the block ends."""
    builders: dict[str, Build] = {"progress": build_progress, "jobs": build_jobs}
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(
            running_system(cluster.url, prefix, directory, builders, replicas=3)
        )
        connections = [
            Penstock(node.url, prefix=prefix, timeout=40) for node in cluster.nodes.values()
        ]
        clients = [await stack.enter_async_context(ps) for ps in connections]
        commanding = Commanding()
        tasks = [asyncio.create_task(commanding.send(ps, f"c{n}")) for n, ps in enumerate(clients)]
        try:
            yield commanding
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended
        print(f"{len(commanding.jobs)} jobs; the longest three commands: {commanding.wait:.2f} s")
        assert len(commanding.jobs) > 10
        await commanding.check(host, clients[0])
        await ready_again(host)


async def ready_again(host: Host) -> None:
    """Wait until every part of the host has heard that all is well again."""
    deadline = time.monotonic() + READY
    while any(host.problems().values()):
        assert time.monotonic() < deadline, host.problems()
        await asyncio.sleep(0.05)


async def test_a_server_killed_or_silent_loses_nothing_and_catches_up(
    tmp_path: Path, prefix: str, rounds: int
) -> None:
    async with (
        running_cluster(tmp_path / "nats") as cluster,
        commands(cluster, prefix, tmp_path / "system"),
        load(cluster, prefix) as appending,
        await Bus.connect(cluster.url, prefix=prefix) as bus,
    ):
        stream = bus.subjects.event_stream(RAW)
        for number in range(max(3, rounds // 3)):
            leader = (await replicas(bus, stream))["leader"]
            others = [name for name in cluster.nodes if name != leader]
            leads, killed = number % 3 != 1, number % 3 != 2
            victim = cluster.nodes[leader if leads else others[number % 2]]
            appending.begin()
            if killed:
                await victim.kill()
            else:
                victim.freeze()
            await appending.goes_on()
            await appending.goes_on()
            pause = appending.pause
            what = f"{victim.name} {'killed' if killed else 'frozen'}{', which led' * leads}"
            print(f"{what}: appends rested {pause:.2f} s")
            assert pause < (ELECTION if leads else PAUSE) + (BUSY if killed else SILENCE + BUSY)
            if number == 0:
                await doctor_says(bus, "warn", f" on {victim.name} ")
            await comes_back(victim, bus)
        await doctor_says(bus, "ok", f"all {len(streams(bus.subjects))} streams")


async def comes_back(node: Node, bus: Bus) -> None:
    """Start or thaw it, and wait until it has everything."""
    if node.runs:
        node.thaw()
    else:
        await node.start()
    started = time.monotonic()
    for config in streams(bus.subjects):
        await caught_up(bus, config["name"])
    print(f"{node.name} had everything {time.monotonic() - started:.2f} s after its return")


async def doctor_says(bus: Bus, result: str, part: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            finding = await replica_finding(bus)
            if finding and finding.result == result and part in finding.text:
                return
            await asyncio.sleep(0.2)


async def test_a_server_that_is_cut_off_stores_nothing_and_catches_up(
    tmp_path: Path, prefix: str
) -> None:
    async with running_cluster(tmp_path, cuttable=True) as cluster, AsyncExitStack() as stack:
        stream = await provisioned(cluster, prefix)

        async def log_on(*nodes: Node, timeout: float) -> JetStreamEventLog:
            url = ",".join(node.url for node in nodes)
            bus = await stack.enter_async_context(await Bus.connect(url, prefix=prefix))
            return JetStreamEventLog(bus, RAW, durability="os", timeout=timeout)

        everywhere = await log_on(*cluster.nodes.values(), timeout=30)
        leader = (await replicas(everywhere.bus, stream))["leader"]
        others = [node for name, node in cluster.nodes.items() if name != leader]
        lonely = await log_on(cluster.nodes[leader], timeout=2)
        together = await log_on(*others, timeout=30)
        first = [event("a", 1), event("a", 2)]
        sequence = (await lonely.append(first, expected=0)).sequence

        cluster.cut_off(leader)
        lost, won = event("a", 3, by="lonely"), event("a", 3, by="together")
        with pytest.raises(Unavailable):
            await lonely.append([lost], expected=sequence)
        await together.append([won], expected=sequence)
        with pytest.raises(Unavailable):
            await lonely.append([lost], expected=sequence)

        cluster.join_again(leader)
        await caught_up(together.bus, stream)
        with pytest.raises(Conflict):
            await lonely.append([lost], expected=sequence)
        for log in (lonely, together):
            # Whichever replica answers, it may be a moment behind.
            async with asyncio.timeout(BUSY):
                while len((await log.load("a")).events) < 3:
                    await asyncio.sleep(0.05)
            assert [r.event for r in (await log.load("a")).events] == [*first, won]


async def provisioned(cluster: Cluster, prefix: str) -> str:
    """The name of the stream of raw events, which is there."""
    async with await Bus.connect(cluster.url, prefix=prefix) as bus:
        config = event_stream(bus.subjects, RAW, 3)
        await until_available(partial(ensure, bus, config), "the stream", within=20)
        name: str = config["name"]
        return name
