"""A handler that blocks its worker's event loop is named, in the log and in the worker's signs."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from penstock.client import Penstock, Worker
from support.workers import NewWorker, Serve

BLOCKED = "a handler blocks its event loop"


async def test_a_handler_that_blocks_the_loop_is_named_and_told_as_a_problem(
    ps: Penstock, new_worker: NewWorker, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    worker, told = new_worker(lease=1), threading.Event()

    @worker.register_handler("blocks")
    async def blocks() -> bool:
        watcher.start()
        return told.wait(15)

    @worker.register_handler("beside")
    def beside() -> None:
        told.wait(15)

    watcher = threading.Thread(target=watch, args=(worker, told), daemon=True)
    await serve(worker)
    with caplog.at_level(logging.WARNING, "penstock.client.worker"):
        await ps.jobs.enqueue("beside")
        job = await ps.jobs.enqueue("blocks")
        assert await ps.jobs.result(job.id, timeout=30) is True
    [warning] = [text for text in caplog.messages if "event loop has been blocked" in text]
    assert "by one of: blocks;" in warning
    assert worker.problem() in (None, BLOCKED)  # until the next look


def watch(worker: Worker, told: threading.Event) -> None:
    """From another thread, since the loop stands still: set `told` once the worker says so."""
    give_up = time.monotonic() + 15
    while worker.problem() != BLOCKED and time.monotonic() < give_up:
        time.sleep(0.01)
    if worker.problem() == BLOCKED:
        told.set()
