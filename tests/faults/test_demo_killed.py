"""kill -9 of the whole process tree in the middle of the demo: nothing lost, nothing doubled."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from penstock.contracts.subjects import SERVICES
from penstock.infra.bus import Bus
from penstock.infra.event_log import JetStreamEventLog, Recorded
from penstock.infra.nats_server import EmbeddedNats
from support.command_line import CLEAN, PENSTOCK
from support.processes import kill_tree

DEMO = [*PENSTOCK, "demo", "--query", "harvest"]
LONGEST = 90.0
TEXTS, PASSAGES, CUES = 7, 24, 10
Logs = dict[str, list[Recorded]]

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.timeout(0),  # bounded by LONGEST for each of the rounds
]


def write_files(directory: Path) -> list[str]:
    """Texts of some passages each, and subtitles, which have times."""
    for number in range(TEXTS):
        passages = [f"Harvest {number}.{i}: the barns stood open." for i in range(PASSAGES)]
        (directory / f"text{number}.txt").write_text("\n\n".join(passages) + "\n")
    cues = [f"{i + 1}\n00:00:{i:02},000 --> 00:00:{i:02},900\nharvest {i}\n" for i in range(CUES)]
    (directory / "cues.srt").write_text("\n".join(cues))
    return [f"text{number}.txt" for number in range(TEXTS)] + ["cues.srt"]


async def stored(directory: Path) -> Logs:
    """Every event of every service, read from the data as they lie there."""
    async with (
        EmbeddedNats(directory / ".penstock" / "nats") as server,
        await Bus.connect(server.url) as bus,
    ):
        logs = {}
        for service in SERVICES:
            name = bus.subjects.event_stream(service)
            streams = await bus.api("STREAM.NAMES")
            if name in (streams["streams"] or []):
                logs[service] = [r async for r in JetStreamEventLog(bus, service).read()]
        return logs


def killed_in_the_middle(directory: Path, files: list[str], after: float) -> None:
    """Start the demo, and kill its tree `after` seconds of its first line of output."""
    with subprocess.Popen(
        [*DEMO, *files], cwd=directory, env=CLEAN, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout
        process.stdout.readline()
        time.sleep(after)
        kill_tree(process.pid)
        process.stdout.read()


def lasts(directory: Path) -> float:
    """How many seconds the demo works here, from its first line of output until its jobs are done.

    Kills are to come while it does, on whatever machine.
    """
    directory.mkdir()
    with subprocess.Popen(
        [*DEMO, *write_files(directory)],
        cwd=directory,
        env=CLEAN,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout
        process.stdout.readline()
        began = time.monotonic()
        for line in process.stdout:
            if "flow of" in line:
                break
        took = time.monotonic() - began
        process.stdout.read()
    assert process.returncode == 0
    return took


def completed(directory: Path, files: list[str]) -> str:
    result = subprocess.run(
        [*DEMO, *files],
        cwd=directory,
        env=CLEAN,
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def assert_nothing_lost(before: Logs, after: Logs) -> None:
    for service, records in before.items():
        assert after[service][: len(records)] == records, f"{service} lost or changed events"


def assert_nothing_doubled(logs: Logs, files: list[str]) -> None:
    for service, records in logs.items():
        ids = Counter(record.event.id for record in records)
        assert not [id for id, times in ids.items() if times > 1], f"{service} has doubled events"
        versions: Counter[str] = Counter()
        for record in records:
            versions[record.event.subject] += 1
            assert record.event.version == versions[record.event.subject]
    assert times(logs, "jobs", "queued") == len(files)
    assert times(logs, "jobs", "completed") == len(files)
    assert times(logs, "progress", "created") == len(files)
    assert times(logs, "progress", "completed") == len(files)
    assert times(logs, "search", "document_indexed") == TEXTS * PASSAGES + CUES
    assert times(logs, "exports", "completed") == TEXTS * 3 + 4
    assert times(logs, "notifications", "sent") == len(files)


def times(logs: Logs, service: str, name: str) -> int:
    return sum(r.event.type == f"penstock.{service}.{name}.v1" for r in logs.get(service, ()))


def test_a_killed_demo_completes_the_same_jobs_when_started_again(
    tmp_path: Path, rounds: int
) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    cut_short = 0
    longest = lasts(tmp_path / "whole")
    for number in range(rounds):
        directory = tmp_path / str(number)
        directory.mkdir()
        files = write_files(directory)
        delay = chance.uniform(0.0, longest)
        killed_in_the_middle(directory, files, delay)
        before = asyncio.run(stored(directory))
        cut_short += times(before, "jobs", "completed") < len(files)
        print(f"seed {seed}, round {number}: killed {delay:.2f} s after its first line")
        completed(directory, files)
        after = asyncio.run(stored(directory))
        assert_nothing_lost(before, after)
        assert_nothing_doubled(after, files)
    assert cut_short > rounds / 3, "too few kills came while work was left: kill earlier"
