"""Runs a host until it is told to stop, or something it stands on has failed."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

from penstock.infra.garbage import look_seldom
from penstock.infra.host import Host, wait_ready
from penstock.infra.settings import Settings
from penstock.infra.telemetry import set_up_logging, set_up_tracing

log = logging.getLogger(__name__)

CATCH_UP = 3600.0  # seconds that folding from the start may take before giving up
PARENT = 0.5  # seconds between looks whether the parent lives


@asynccontextmanager
async def stop_signals() -> AsyncIterator[asyncio.Event]:
    """An event that SIGTERM or SIGINT sets; a second signal then acts as usual."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):

        def stopped(number: int = number) -> None:
            stop.set()
            loop.remove_signal_handler(number)

        loop.add_signal_handler(number, stopped)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def run_host(
    host: Host,
    settings: Settings,
    *,
    ready: Callable[[], None],
    failed: Callable[[], Coroutine[Any, Any, None]] | None = None,
    with_parent: bool = False,
) -> None:
    """Start, call `ready`, run until a signal, then drain.

    `failed` ends, or raises, when what the host stands on is lost. With `with_parent` the end of
    the parent process counts as a signal. Raises StartupError.
    """
    set_up_logging(settings.log_level, settings.log_format)
    tracing = set_up_tracing("penstock")
    try:
        look_seldom()
        async with stop_signals() as stop:
            await _run(host, stop, ready, failed, with_parent)
    finally:
        await host.drain()
        if tracing:
            await asyncio.to_thread(tracing.shutdown)


async def _run(
    host: Host,
    stop: asyncio.Event,
    ready: Callable[[], None],
    failed: Callable[[], Coroutine[Any, Any, None]] | None,
    with_parent: bool,
) -> None:
    ends: list[asyncio.Task[Any]] = [asyncio.create_task(stop.wait())]
    if failed:
        ends.append(asyncio.create_task(failed()))
    if with_parent:
        ends.append(asyncio.create_task(_parent_gone(os.getppid())))
    start = asyncio.create_task(_start(host, ready))
    try:
        done, _ = await asyncio.wait([start, *ends], return_when=asyncio.FIRST_COMPLETED)
        if start in done and start.exception() is None:
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in [start, *ends]:
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


async def _start(host: Host, ready: Callable[[], None]) -> None:
    await host.start()
    await wait_ready(host, CATCH_UP)
    ready()


async def _parent_gone(parent: int) -> None:
    while os.getppid() == parent:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(PARENT)
    log.info("the parent process ended")
