"""How fast is the event log, beside raw nats-py on the same server in the same run?

Appends by one caller and by 64 in both durabilities, loading one aggregate among many, and folding
into a view. Each pair is measured in turns, and the medians are compared, since shared machines
drift. Asserts nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from nats.js.client import JetStreamContext
from rich.console import Console
from rich.table import Table

from penstock.contracts.envelope import Envelope, encode, wrap
from penstock.contracts.progress import ProgressCreated, ProgressState, ProgressUpdated
from penstock.infra.bus import Bus
from penstock.infra.commit import publish_batch
from penstock.infra.event_log import Durability, JetStreamEventLog
from penstock.infra.nats_server import EmbeddedNats
from penstock.infra.projector import Projector
from penstock.infra.read_model import ReadModel
from penstock.infra.streams import event_stream
from penstock.progress.domain import evolve
from penstock.progress.views import ProgressView

TURNS = 5
CALLERS = 64
PER_AGGREGATE = 10
SIDE_BY_SIDE = 1000  # aggregates whose events are interleaved
NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
SERVICE = "progress"
ids = itertools.count()


class Figure(msgspec.Struct, frozen=True):
    """One measured figure; `ratio` is ours over the raw client's."""

    what: str
    ours: float
    unit: str
    target: str
    reached: bool
    raw: float | None = None
    ratio: float | None = None


def event(id: str, version: int = 1) -> Envelope:
    """An event such as services store, some 350 bytes."""
    data = ProgressUpdated(percent=version * 5.0, stage="transcribe", message="working on it")
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


async def rate(count: int, work: Callable[[int], Awaitable[object]], callers: int = 1) -> float:
    """Operations a second of `work`, done `count` times by so many callers at once."""

    async def caller() -> None:
        for _ in range(count // callers):
            await work(next(ids))

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return count // callers * callers / (time.perf_counter() - started)


async def pipelined(js: JetStreamContext, count: int, subject: str) -> float:
    """Messages a second through nats-py's own pipelined publishing, as fast as it goes."""
    body = encode(event("raw"))
    started = time.perf_counter()
    futures = [await js.publish_async(f"{subject}.{next(ids)}", body) for _ in range(count)]
    await asyncio.gather(*futures)
    return count / (time.perf_counter() - started)


async def appends(bus: Bus, durability: Durability) -> list[Figure]:
    """Append by one caller and by 64, against raw publishing of the same bytes."""
    log = JetStreamEventLog(bus, SERVICE, durability=durability)
    js = bus.nc.jetstream(publish_async_max_pending=4000)
    subject = bus.subjects.event(SERVICE, "raw")
    body = encode(event("raw"))

    async def append(number: int) -> None:
        id = f"a{number}"
        await log.append([event(id)], expected=0)

    async def publish(number: int) -> None:
        await js.publish(f"{subject}.{number}", body)

    one, raw_one, many, raw_many = [], [], [], []
    for _ in range(TURNS):
        raw_one.append(await rate(1000, publish))
        one.append(await rate(1000, append))
        raw_many.append(await pipelined(js, 10_000, subject))
        many.append(await rate(10_000, append, CALLERS))
    await log.close()
    least = 20_000 if durability == "os" else 10_000
    alone = _against(f"append, 1 caller, {durability}", one, raw_one, 0.8, 0)
    together = _against(f"append, {CALLERS} callers, {durability}", many, raw_many, 0.7, least)
    return [alone, together]


def _against(what: str, ours: list[float], raw: list[float], share: float, least: int) -> Figure:
    mine, theirs = statistics.median(ours), statistics.median(raw)
    ratio = statistics.median(a / b for a, b in zip(ours, raw, strict=True))
    target = f">= {share}x raw" + (f", >= {least:,}/s" if least else "")
    return Figure(what, mine, "/s", target, ratio >= share and mine >= least, theirs, ratio)


async def fill(bus: Bus, count: int) -> list[str]:
    """Store `count` events, ten an aggregate and many aggregates side by side; their ids."""
    groups = max(1, count // (PER_AGGREGATE * SIDE_BY_SIDE))
    for group in range(groups):
        names = [f"g{group}n{number}" for number in range(SIDE_BY_SIDE)]
        for version in range(1, PER_AGGREGATE + 1):
            batch: list[tuple[str, bytes, dict[str, str]]] = [
                (bus.subjects.event(SERVICE, n), encode(event(n, version)), {}) for n in names
            ]
            await publish_batch(bus, batch, timeout=60)
    return [f"g{group}n{number}" for group in range(groups) for number in range(SIDE_BY_SIDE)]


async def loads(bus: Bus, names: list[str], events: int) -> Figure:
    """Loading one aggregate of ten events among all the others."""
    log = JetStreamEventLog(bus, SERVICE)
    took = []
    for name in random.Random(1).sample(names, min(1000, len(names))):
        started = time.perf_counter()
        loaded = await log.load(name)
        took.append((time.perf_counter() - started) * 1000)
        assert len(loaded.events) == PER_AGGREGATE
    median = statistics.median(took)
    what = f"load {PER_AGGREGATE} events among {events:,}, p50"
    return Figure(what, median, "ms", "<= 1 ms", median <= 1)


async def folds(bus: Bus, directory: Path) -> Figure:
    """Folding every stored event into progress's view, from the stream to the disk."""
    log = JetStreamEventLog(bus, SERVICE)
    end = await log.last_sequence()
    rates = []
    for turn in range(3):
        model = ReadModel(directory / f"{turn}.sqlite", ProgressView(), ProgressState)
        projector = Projector(bus, log, model, evolve)
        started = time.perf_counter()
        projector.start()
        await projector.reached(end, 600)
        rates.append(end / (time.perf_counter() - started))
        await projector.stop()
        model.close()
    median = statistics.median(rates)
    return Figure("fold into a view", median, "events/s", ">= 40,000/s", median >= 40_000)


async def measure(events: int, folded: int) -> list[Figure]:
    """Every figure, each part on a server and data of its own."""
    figures = []
    durabilities: tuple[Durability, ...] = ("os", "fsync")
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as scratch:
        for durability in durabilities:
            async with _log(Path(scratch) / durability, durability) as bus:
                figures += await appends(bus, durability)
        async with _log(Path(scratch) / "load", "os") as bus:
            names = await fill(bus, events)
            figures.append(await loads(bus, names, len(names) * PER_AGGREGATE))
        async with _log(Path(scratch) / "fold", "os") as bus:
            await fill(bus, folded)
            figures.append(await folds(bus, Path(scratch)))
    return figures


class _log:  # noqa: N801 - used as a function
    """A server with the event stream of one service, and a connection to it."""

    def __init__(self, directory: Path, durability: Durability) -> None:
        self._server = EmbeddedNats(directory, durability=durability)

    async def __aenter__(self) -> Bus:
        await self._server.start()
        self._bus = await Bus.connect(self._server.url, timeout=60)
        config = event_stream(self._bus.subjects, SERVICE)
        await self._bus.api(f"STREAM.CREATE.{config['name']}", config)
        return self._bus

    async def __aexit__(self, *exc: object) -> None:
        await self._bus.close()
        await self._server.stop()


def show(figures: list[Figure]) -> None:
    """Print the figures as a table."""
    table = Table("", "ours", "raw nats-py", "ratio", "target", "", box=None)
    for f in figures:
        shown = f"{f.ours:,.2f} {f.unit}" if f.ours < 10 else f"{f.ours:,.0f} {f.unit}"
        raw = f"{f.raw:,.0f} {f.unit}" if f.raw else "-"
        ratio = f"{f.ratio:.2f}" if f.ratio else "-"
        table.add_row(f.what, shown, raw, ratio, f.target, "reached" if f.reached else "MISSED")
    Console(width=120).print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="tools/bench eventlog", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="among which one is loaded")
    parser.add_argument("--folded", type=int, default=200_000, help="events to fold")
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    options = parser.parse_args()
    found = asyncio.run(measure(options.events, options.folded))
    if options.json:
        print(msgspec.json.encode(found).decode())
    else:
        show(found)
