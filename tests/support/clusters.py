"""For tests of clusters: what their streams say of their replicas, and appends that never stop."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from functools import partial
from typing import Any

from penstock.contracts.errors import Conflict, Unavailable
from penstock.infra.bus import Bus
from penstock.infra.event_log import JetStreamEventLog
from penstock.infra.retrying import until_available
from support.events import event

PATIENCE = 40.0
RECENTLY = 2_000_000_000  # nanoseconds
BREATH = 0.01  # seconds that a writer rests, so that the servers do not starve each other


async def replicas(bus: Bus, stream: str) -> dict[str, Any]:
    """`leader`, and `replicas` with how each one follows it."""
    attempt = partial(bus.api, f"STREAM.INFO.{stream}", timeout=2)
    info = await until_available(attempt, stream, within=PATIENCE)
    found: dict[str, Any] = info["cluster"]
    return found


async def caught_up(bus: Bus, stream: str) -> None:
    """Wait until the stream has a leader and every replica has what it has."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = await replicas(bus, stream)
            others = found.get("replicas", [])
            if len(others) == 2 and all(map(_follows, others)):
                return
            await asyncio.sleep(0.1)


def _follows(replica: dict[str, Any]) -> bool:
    # One that was heard long ago may be called current all the same.
    heard: int = replica["active"]
    return replica["current"] and not replica.get("lag") and heard < RECENTLY


class Appending:
    """Writers of raw events: what they were told is stored, and the longest wait for it.

    Several append to each aggregate; whoever loses the race loads and tries again.
    """

    def __init__(self, log: JetStreamEventLog) -> None:
        self.log = log
        self.acknowledged: defaultdict[str, dict[int, str]] = defaultdict(dict)
        self.pause = 0.0
        self._last = time.monotonic()

    def begin(self) -> None:
        """Measure the longest wait from now on."""
        self.pause, self._last = 0.0, time.monotonic()

    async def append(self, id: str, writer: str) -> None:
        """Append to one aggregate for ever."""
        version = sequence = number = 0
        while True:
            number += 1
            one = event(id, version + 1, by=f"{writer}-{number}")
            try:
                sequence = (await self.log.append([one], expected=sequence)).sequence
            except (Conflict, Unavailable):  # somebody was quicker, or it took too long to tell
                load = partial(self.log.load, id)
                loaded = await until_available(load, id, within=PATIENCE)
                version, sequence = len(loaded.events), loaded.sequence
                continue
            version += 1
            self.acknowledged[id][sequence] = one.id
            now = time.monotonic()
            self.pause, self._last = max(self.pause, now - self._last), now
            await asyncio.sleep(BREATH)

    async def goes_on(self) -> None:
        """Wait until something more is acknowledged."""
        before = self.count
        async with asyncio.timeout(PATIENCE):
            while self.count == before:
                await asyncio.sleep(0.01)

    @property
    def count(self) -> int:
        """How many were acknowledged."""
        return sum(map(len, self.acknowledged.values()))

    async def check(self) -> None:
        """Everything acknowledged is stored where it was said to be, and versions are 1..n."""
        for id, told in self.acknowledged.items():
            found = (await self.log.load(id)).events
            stored = {record.sequence: record.event.id for record in found}
            assert told.items() <= stored.items(), f"{id} lost {told.items() - stored.items()}"
            assert [record.event.version for record in found] == list(range(1, len(found) + 1))
            assert len(set(stored.values())) == len(stored)
