"""Loading one aggregate among many: a short one, a long one, and a long one by its snapshot."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks.eventlog.figures import OURS, Figure, Samples, figure, percentile_99
from benchmarks.eventlog.library import Library, libraries
from benchmarks.eventlog.material import (
    LONG,
    LONG_EVENTS,
    PER_AGGREGATE,
    SERVICE,
    fill,
    groups,
    history,
    names,
    stream,
)
from penstock.contracts.envelope import decode
from penstock.contracts.progress import ProgressState
from penstock.infra.bus import Bus
from penstock.infra.deciding.aggregates import Aggregates
from penstock.infra.deciding.snapshots import Snapshots
from penstock.infra.event_log import JetStreamEventLog
from penstock.progress.domain import evolve

SHORT_TURNS, LONG_TURNS, SNAPSHOT_TURNS = 1000, 30, 500


async def loads(directory: Path, postgres: str | None, events: int) -> list[Figure]:
    """Loading among `events` events, on each system from the same history."""
    with libraries(directory, postgres, "os") as others:
        for other in others:
            other.fill(history(events, long=LONG_EVENTS))
        async with stream(directory / "load", "os") as bus:
            await fill(bus, events, long=LONG_EVENTS)
            log = JetStreamEventLog(bus, SERVICE)
            chosen = random.Random(1).choices(names(events), k=SHORT_TURNS)
            short = await _loaded(log, others, chosen, PER_AGGREGATE)
            long = await _loaded(log, others, [LONG] * LONG_TURNS, LONG_EVENTS)
            among = f"among {groups(events) * 10_000 + LONG_EVENTS:,}"
            return [
                *_rows(f"load {PER_AGGREGATE} events {among}", short, most=(1, None)),
                *_rows(f"load {LONG_EVENTS:,} events {among}", long, most=(None, None)),
                *await loads_long(bus, log),
            ]


async def loads_long(bus: Bus, log: JetStreamEventLog) -> list[Figure]:
    """The state of a long aggregate, as a command gets it: by its snapshot."""
    aggregates = Aggregates(log, evolve, snapshots=Snapshots(bus, SERVICE, ProgressState))
    await aggregates.load(LONG)  # offers a snapshot
    await aggregates.close()  # it is written

    async def load() -> None:
        assert (await aggregates.load(LONG)).version == LONG_EVENTS

    samples: Samples = {OURS: [await _milliseconds(load) for _ in range(SNAPSHOT_TURNS)]}
    return _rows(f"state after {LONG_EVENTS:,} events, by snapshot", samples, most=(None, 5))


async def _loaded(
    log: JetStreamEventLog, others: list[Library], chosen: list[str], expected: int
) -> Samples:
    """Milliseconds for each of the ids, on each system in turn. Events are decoded on each."""
    samples: Samples = defaultdict(list)
    for id in chosen:

        async def ours(id: str = id) -> None:
            assert len((await log.load(id)).events) == expected

        samples[OURS].append(await _milliseconds(ours))
        for other in others:

            async def theirs(id: str = id, other: Library = other) -> None:
                found = [decode(e.state) for e in other.recorder.select_events(id)]
                assert len(found) == expected

            samples[other.system].append(await _milliseconds(theirs))
    return samples


async def _milliseconds(work: Callable[[], Awaitable[None]]) -> float:
    started = time.perf_counter()
    await work()
    return (time.perf_counter() - started) * 1000


def _rows(what: str, samples: Samples, *, most: tuple[float | None, float | None]) -> list[Figure]:
    return [
        figure(f"{what}, p50", "os", "ms", samples, most=most[0]),
        figure(f"{what}, p99", "os", "ms", samples, most=most[1], take=percentile_99),
    ]
