"""What a finished job costs on disk before and after it went to the archive, and how fast it goes.

The stream's own count of bytes and the size of its files, for jobs of three events each.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from penstock.cli.builders import builders
from penstock.contracts.envelope import Envelope, encode, wrap
from penstock.contracts.jobs import JobCompleted, JobQueued, JobStarted
from penstock.contracts.lifecycle import ARCHIVE, Archiving
from penstock.infra.bus import Bus
from penstock.infra.commit import publish_batch
from penstock.infra.nats_server import EmbeddedNats
from penstock.infra.sender import Cause, Sender
from penstock.infra.testing import running_system

SIDE_BY_SIDE = 100
ENDED = datetime.now(UTC) - timedelta(days=100)


def job(id: str) -> Sequence[Envelope]:
    """The events of a job that was done at its first attempt."""
    data = (
        JobQueued(name="transcribe", payload={"file_id": id, "language": "en"}, tags=("bench",)),
        JobStarted(attempt=1, worker="worker-1", item=1),
        JobCompleted(attempt=1, result=msgspec.Raw(b'{"words":1234,"ok":true}')),
    )
    return [
        wrap(
            one,
            id=f"{id}-c:{version}",
            subject=id,
            time=ENDED,
            correlationid=f"flow-{id}",
            causationid=f"{id}-c{version}",
            actor="bench",
            version=version,
        )
        for version, one in enumerate(data, 1)
    ]


async def fill(bus: Bus, jobs: int) -> None:
    """Store the events of so many jobs, many side by side."""
    for group in range(0, jobs, SIDE_BY_SIDE):
        stories = [job(f"job-{number:08}") for number in range(group, group + SIDE_BY_SIDE)]
        batch: list[tuple[str, bytes, dict[str, str]]] = [
            (bus.subjects.event("jobs", event.subject), encode(event), {})
            for step in zip(*stories, strict=True)
            for event in step
        ]
        await publish_batch(bus, batch, timeout=60)


async def archive(bus: Bus) -> int:
    """Archive everything that is completed; how many jobs."""
    sender, moved, number = Sender(bus), 0, 0
    while True:
        outcome = await sender.send(
            ARCHIVE["jobs"](before={"completed": datetime.now(UTC)}),
            id="archive",
            command_id=f"bench-{number}",
            cause=Cause(correlationid="bench"),
            timeout=120,
        )
        done = msgspec.json.decode(outcome.data, type=Archiving)
        moved, number = moved + done.aggregates, number + 1
        if not done.more:
            return moved


async def stream_bytes(bus: Bus, name: str) -> int:
    """What a stream says it holds."""
    return int((await bus.api(f"STREAM.INFO.{name}"))["state"]["bytes"])


def on_disk(directory: Path, stream: str) -> int:
    """What the files of a stream take."""
    files = [p for d in directory.rglob(stream) for p in d.rglob("*") if p.is_file()]
    return sum(path.stat().st_blocks * 512 for path in files)


async def measure(jobs: int) -> None:
    """Fill, archive, and print what was there before and after."""
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as scratch:
        directory = Path(scratch)
        async with (
            EmbeddedNats(directory / "nats", durability="os") as server,
            running_system(
                server.url, "bench", directory, builders(["jobs"]), retention=""
            ) as host,
            await Bus.connect(server.url, prefix="bench", timeout=120) as bus,
        ):
            events, files = bus.subjects.event_stream("jobs"), f"OBJ_{bus.subjects.stream('files')}"
            await fill(bus, jobs)
            [service] = host.services
            await service.projector.reached(await service.log.last_sequence(), 600)
            before = await stream_bytes(bus, events), on_disk(directory, events)
            started = time.perf_counter()
            moved = await archive(bus)
            took = time.perf_counter() - started
            after = await stream_bytes(bus, events), on_disk(directory, events)
            kept = await stream_bytes(bus, files), on_disk(directory, files)
        show(jobs, moved, took, before, after, kept)


def show(
    jobs: int,
    moved: int,
    took: float,
    before: tuple[int, int],
    after: tuple[int, int],
    kept: tuple[int, int],
) -> None:
    """Print the figures as a table."""
    table = Table("", "bytes a job", "bytes a job on disk", box=None)
    for what, (held, disk) in (
        ("events, before", before),
        ("tombstones, after", after),
        ("segments, after", kept),
    ):
        table.add_row(what, f"{held / jobs:,.0f}", f"{disk / jobs:,.0f}")
    console = Console(width=100)
    console.print(table)
    share = (after[0] + kept[0]) / before[0]
    console.print(
        f"{moved:,} of {jobs:,} jobs archived, {moved / took:,.0f} jobs/s, to {share:.0%}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="tools/bench archive", description=__doc__)
    parser.add_argument("--jobs", type=int, default=20_000)
    asyncio.run(measure(parser.parse_args().jobs))
