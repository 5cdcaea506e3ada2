"""Why a job does not start where no worker would take it: which one is missing."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from penstock.client import Penstock
from penstock.contracts.workers import HandlerInfo, WorkerSign
from penstock.infra.bus import Bus
from penstock.jobs import workers as workers_module
from penstock.jobs.workers import LOST, Workers
from penstock.jobs.workers_missing import who_is_missing
from support.workers import NewWorker


def sign(name: str, *, queue: str, handler: str, draining: bool = False) -> WorkerSign:
    now = datetime.now(UTC)
    return WorkerSign(
        name=name,
        host="h",
        pid=1,
        started=now,
        time=now,
        penstock="1",
        queues=(queue,),
        concurrency=1,
        lease=5.0,
        draining=draining,
        handlers=(HandlerInfo(name=handler, lane="async"),),
    )


async def test_it_is_told_which_worker_is_missing(nats_url: str) -> None:
    now = 0.0
    async with await Bus.connect(nats_url) as bus:
        workers = Workers(bus, clock=lambda: now)
        missing = who_is_missing(workers, "q", "n")
        assert missing and missing.startswith("No worker listens on the queue 'q': start one")
        workers.hear(sign("a", queue="q", handler="other"))
        assert who_is_missing(workers, "q", "n") == (
            "No worker of the queue 'q' has a handler for 'n' now."
        )
        workers.hear(sign("b", queue="elsewhere", handler="n"))
        assert who_is_missing(workers, "q", "n") == (
            "No worker of the queue 'q' has a handler for 'n' now; there is one for 'elsewhere'."
        )
        workers.hear(sign("c", queue="q", handler="n", draining=True))
        assert who_is_missing(workers, "q", "n") == (
            "Every worker of the queue 'q' with a handler for 'n' is about to end."
        )
        workers.hear(sign("d", queue="q", handler="n"))
        assert who_is_missing(workers, "q", "n") is None
        now = LOST
        assert who_is_missing(workers, "q", "n") == missing, "nobody lives any more"


async def test_a_job_tells_that_no_worker_would_take_it(
    ps: Penstock, new_worker: NewWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers_module, "LOST", 1.0)  # so that it is soon known who lives
    await ps.jobs.enqueue("sum", id="s", queue="q")
    assert await told(ps, "No worker listens on the queue 'q'")
    worker = new_worker(queues=["q"])

    @worker.register_handler("other")
    async def other() -> None:
        """Does nothing."""

    async with worker:
        assert await told(ps, "No worker of the queue 'q' has a handler for 'sum' now.")


async def told(ps: Penstock, beginning: str) -> str:
    """What is told, once that begins so."""
    async with asyncio.timeout(60):
        while True:
            why = await ps.jobs.why("s")
            assert why.waits_for == ("worker",)
            if why.because[0].startswith(beginning):
                return why.because[0]
            await asyncio.sleep(0.02)
