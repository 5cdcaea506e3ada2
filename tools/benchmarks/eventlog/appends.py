"""Appending by one caller and by 64, in both durabilities."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from pathlib import Path

from nats.js.client import JetStreamContext

from benchmarks.eventlog.figures import OURS, RAW, Figure, Samples, figure
from benchmarks.eventlog.library import Library, libraries
from benchmarks.eventlog.material import CALLERS, SERVICE, event, ids, rate, stream
from penstock.contracts.envelope import encode
from penstock.contracts.subjects import EXPECTED
from penstock.infra.bus import Bus
from penstock.infra.event_log import Durability, JetStreamEventLog

TURNS = 5
ALONE = 1000  # appends by one caller a turn
TOGETHER: dict[Durability, int] = {"os": 10_240, "fsync": 5120}  # by 64
LEAST: dict[Durability, int] = {"os": 20_000, "fsync": 10_000}
LIBRARY_ALONE, LIBRARY_TOGETHER = 300, 640


class _Measured:
    """One durability: a server, our log on it, the library's stores, and what came out."""

    def __init__(self, bus: Bus, durability: Durability, others: list[Library]) -> None:
        self.durability = durability
        self.log = JetStreamEventLog(bus, SERVICE, durability=durability)
        self.alone: Samples = defaultdict(list)
        self.together: Samples = defaultdict(list)
        self.batches: Samples = defaultdict(list)
        self._bus = bus
        self._others = others
        self._js = bus.nc.jetstream(publish_async_max_pending=4000)
        self._subject = bus.subjects.event(SERVICE, "raw")
        self._body = encode(event("raw"))

    async def turn(self) -> None:
        """Each system once."""
        count = TOGETHER[self.durability]
        self.alone[RAW].append(await rate(ALONE, self._publish))
        self.alone[OURS].append(await rate(ALONE, self._append))
        self.together[RAW].append(await self._pipelined(count))
        self.together[OURS].append(await rate(count, self._append, CALLERS))
        self.batches[RAW].append(await self._batched(count))
        for other in self._others:
            self.alone[other.system].append(other.append_rate(LIBRARY_ALONE, 1))
            self.together[other.system].append(other.append_rate(LIBRARY_TOGETHER, CALLERS))

    async def _append(self, number: int) -> None:
        await self.log.append([event(f"a{number}")], expected=0)

    async def _publish(self, number: int) -> None:
        await self._js.publish(f"{self._subject}.{number}", self._body)

    async def _pipelined(self, count: int) -> float:
        """Messages a second by nats-py's own pipelined publishing, as fast as it goes."""
        js: JetStreamContext = self._js
        started = time.perf_counter()
        futures = [
            await js.publish_async(f"{self._subject}.{next(ids)}", self._body) for _ in range(count)
        ]
        await asyncio.gather(*futures)
        return count / (time.perf_counter() - started)

    async def _batched(self, count: int) -> float:
        """Messages a second in atomic batches of 64 one behind the other: what one server does
        for 64 callers who wait, if those callers cost nothing."""
        started = time.perf_counter()
        for _ in range(count // CALLERS):
            await self._batch()
        return count // CALLERS * CALLERS / (time.perf_counter() - started)

    async def _batch(self) -> None:
        batch = f"bench{next(ids)}"
        for position in range(1, CALLERS + 1):
            headers = {EXPECTED: "0", "Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(position)}
            subject = f"{self._subject}.{next(ids)}"
            if position < CALLERS:
                await self._bus.nc.publish(subject, self._body, headers=headers)
            else:
                headers["Nats-Batch-Commit"] = "1"
                await self._bus.nc.request(subject, self._body, timeout=10, headers=headers)


async def appends(directory: Path, postgres: str | None) -> list[Figure]:
    """Append by one caller and by 64 in both durabilities, and one durability over the other."""
    async with (
        stream(directory / "append-os", "os") as os,
        stream(directory / "append-fsync", "fsync") as fsync,
    ):
        with (
            libraries(directory, postgres, "os") as os_others,
            libraries(directory, postgres, "fsync") as fsync_others,
        ):
            measured = [_Measured(os, "os", os_others), _Measured(fsync, "fsync", fsync_others)]
            for _ in range(TURNS):
                for one in measured:
                    await one.turn()
        for one in measured:
            await one.log.close()
    return [*_rows(measured[0]), *_rows(measured[1]), *_compared(*measured)]


def _rows(m: _Measured) -> list[Figure]:
    return [
        figure("append, 1 caller", m.durability, "/s", m.alone, share_of_raw=0.8),
        figure(
            f"append, {CALLERS} callers",
            m.durability,
            "/s",
            m.together,
            share_of_raw=0.7,
            least=LEAST[m.durability],
        ),
    ]


def _compared(os: _Measured, fsync: _Measured) -> list[Figure]:
    """What `fsync` costs 64 callers, and what it would cost if our side took no time."""
    divided = {
        OURS: _over(os.together[OURS], fsync.together[OURS]),
        RAW: _over(os.together[OURS], fsync.batches[RAW]),
    }
    batches = {OURS: fsync.together[OURS], RAW: fsync.batches[RAW]}
    return [
        figure(
            f"append, {CALLERS} callers, beside atomic batches of {CALLERS}",
            "fsync",
            "/s",
            batches,
            share_of_raw=0.8,
        ),
        figure(f"append, {CALLERS} callers: os over fsync", "both", "x", divided, most=2),
    ]


def _over(os: list[float], fsync: list[float]) -> list[float]:
    return [a / b for a, b in zip(os, fsync, strict=True)]
