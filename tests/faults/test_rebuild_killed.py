"""kill -9 at any moment of a rebuild: the next start finds a whole view, the old or the new."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from penstock.client import Penstock
from penstock.contracts.errors import PenstockError, from_problem
from penstock.contracts.views import Rebuild, Rebuilt, Verified, Verify
from penstock.infra.control import ask_all
from support.command_line import CLEAN, PENSTOCK
from support.filling import fill

EVENTS = 10_000
AFTERWARDS = 1.15  # of the time of a whole rebuild, so that some are killed just behind it

pytestmark = pytest.mark.timeout(0)  # each step has its own


@contextmanager
def serving(directory: Path, nats_url: str, prefix: str) -> Iterator[subprocess.Popen[str]]:
    """`penstock serve progress`, ready when the block begins and dead when it ends."""
    environ = {
        "PENSTOCK_NATS_URL": nats_url,
        "PENSTOCK_PREFIX": prefix,
        "PENSTOCK_DATA": str(directory),
        "PENSTOCK_HTTP_PORT": "0",
        "PENSTOCK_DURABILITY": "os",
    }
    log = directory / "log"
    with (
        log.open("a") as errors,
        subprocess.Popen(
            [*PENSTOCK, "serve", "progress"],
            env={**CLEAN, **environ},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout
            assert "serves progress" in process.stdout.readline(), log.read_text()
            yield process
        finally:
            process.kill()


async def rebuilt(ps: Penstock) -> Rebuilt:
    reports = [r async for r in ask_all(ps.session.bus, "progress", "rebuild", Rebuild())]
    if reports[-1].problem:
        raise from_problem(reports[-1].problem)
    return msgspec.json.decode(reports[-1].data, type=Rebuilt)


async def verified(ps: Penstock) -> Verified:
    reports = [r async for r in ask_all(ps.session.bus, "progress", "verify", Verify())]
    assert reports[-1].problem is None, reports[-1]
    return msgspec.json.decode(reports[-1].data, type=Verified)


async def test_killed_at_any_moment_it_leaves_a_whole_view(
    nats_url: str, prefix: str, tmp_path: Path, rounds: int
) -> None:
    views = tmp_path / "views"
    generations = set()
    async with Penstock(nats_url, prefix=prefix) as ps:
        with serving(tmp_path, nats_url, prefix):
            await fill(ps.session.bus, EVENTS)
            ps.session.wrote("progress", EVENTS)
            await ps.progress.list(limit=1)  # answered once all of them are folded
            started = time.monotonic()
            assert (await rebuilt(ps)).events == EVENTS
            whole = time.monotonic() - started
        for turn in range(1 + rounds // 4):
            with serving(tmp_path, nats_url, prefix) as process:
                await killed_while_rebuilding(ps, process, turn, whole)
            left = [path.name for path in views.glob("*.sqlite")]
            with serving(tmp_path, nats_url, prefix):
                found = await verified(ps)
                assert (found.count, found.events) == (0, EVENTS + turn + 1), (turn, left)
                [present] = views.glob("*.sqlite")
                assert present.name in left
                generations.add(present.name)
                assert not list(views.glob("*scratch*"))
    print(f"views left: {sorted(generations)}")


async def killed_while_rebuilding(
    ps: Penstock, process: subprocess.Popen[str], turn: int, whole: float
) -> None:
    rebuilding = asyncio.create_task(rebuilt(ps))
    created = asyncio.create_task(ps.progress.create(f"meanwhile-{turn}"))
    await asyncio.sleep(random.uniform(0, AFTERWARDS * whole))
    await created
    os.kill(process.pid, signal.SIGKILL)
    rebuilding.cancel()
    await asyncio.gather(rebuilding, return_exceptions=True)
    assert rebuilding.cancelled() or isinstance(rebuilding.exception(), PenstockError | type(None))
