"""What is measured with: events such as services store, a server, and a stream full of them."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from penstock.contracts.envelope import Envelope, encode, wrap
from penstock.contracts.progress import ProgressCreated, ProgressUpdated
from penstock.infra.bus import Bus, Message
from penstock.infra.commit import publish_batch
from penstock.infra.event_log import Durability
from penstock.infra.nats_server import EmbeddedNats
from penstock.infra.streams import event_stream, streams

SERVICE = "progress"
CALLERS = 64
PER_AGGREGATE = 10
SIDE_BY_SIDE = 1000  # aggregates whose events are interleaved
LONG, LONG_EVENTS = "long", 10_000
NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
ids = itertools.count()


def event(id: str, version: int = 1) -> Envelope:
    """An event such as services store, some 350 bytes."""
    data = ProgressUpdated(percent=version % 20 * 5.0, stage="transcribe", message="working on it")
    created = ProgressCreated(stages=("transcribe", "index"), metadata={"file": id})
    return wrap(
        created if version == 1 else data,
        id=f"{id}-c:{version}",
        subject=id,
        time=NOW,
        correlationid=f"flow-{id}",
        causationid=f"{id}-c{version}",
        actor="bench",
        version=version,
    )


def size() -> int:
    """The bytes of one event as stored."""
    return len(encode(event("g10n100", 5)))


async def rate(count: int, work: Callable[[int], Awaitable[object]], callers: int = 1) -> float:
    """Operations a second of `work`, done `count` times by so many callers at once."""

    async def caller() -> None:
        for _ in range(count // callers):
            await work(next(ids))

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return count // callers * callers / (time.perf_counter() - started)


@asynccontextmanager
async def stream(directory: Path, durability: Durability) -> AsyncIterator[Bus]:
    """A server with the event stream of one service and one for snapshots, and a connection."""
    async with (
        EmbeddedNats(directory, durability=durability) as server,
        await Bus.connect(server.url, timeout=60) as bus,
    ):
        snapshots = [c for c in streams(bus.subjects) if c["name"].endswith("SNAP")]
        for config in [event_stream(bus.subjects, SERVICE), *snapshots]:
            await bus.api(f"STREAM.CREATE.{config['name']}", config)
        yield bus


def groups(count: int) -> int:
    """How many groups of aggregates `count` events are."""
    return max(1, count // (PER_AGGREGATE * SIDE_BY_SIDE))


def names(count: int) -> list[str]:
    """The ids of the aggregates in `count` events."""
    return [f"g{g}n{number}" for g in range(groups(count)) for number in range(SIDE_BY_SIDE)]


def history(count: int, *, long: int = 0) -> Iterator[list[Envelope]]:
    """`count` events in portions of at most 1000, ten an aggregate and many side by side.

    Among them one aggregate with `long` events, evenly spread.
    """
    written = 0
    for group in range(groups(count)):
        for version in range(1, PER_AGGREGATE + 1):
            yield [event(f"g{group}n{number}", version) for number in range(SIDE_BY_SIDE)]
        due = long * (group + 1) // groups(count)
        while written < due:
            portion = range(written + 1, min(written + 1000, due) + 1)
            written = portion[-1]
            yield [event(LONG, version) for version in portion]


async def fill(bus: Bus, count: int, *, long: int = 0) -> None:
    """Store `history`, as fast as it goes and without looking at what is there."""
    for portion in history(count, long=long):
        batch: list[Message] = [
            (bus.subjects.event(SERVICE, e.subject), encode(e), {}) for e in portion
        ]
        await publish_batch(bus, batch, timeout=60)
