"""Tells over core NATS, every few seconds, that a worker lives and what it does. Never stored."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import islice

import msgspec
from nats.aio.msg import Msg

from penstock.client.worker.attempt import Attempt
from penstock.client.worker.handlers import Handler
from penstock.contracts.errors import PenstockError
from penstock.contracts.workers import RUNNING_SHOWN, HandlerInfo, RunningJob, WorkerSign
from penstock.infra.bus import Bus

log = logging.getLogger(__name__)

EVERY = 2.0  # seconds
WHOLE_EVERY = 15  # signs, of which one shows the schemas of payloads as well

_encode = msgspec.json.Encoder().encode


class Signs:
    """`present` gives what changes; see `WorkerSign` for the rest."""

    def __init__(
        self,
        bus: Bus,
        about: WorkerSign,
        handlers: Sequence[Handler],
        present: Callable[[], tuple[Sequence[Attempt], str | None]],
    ) -> None:
        self._bus = bus
        self._about = about
        self._handlers = handlers
        self._present = present
        self._draining = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin with a whole sign."""
        self._call = await self._bus.nc.subscribe(self._bus.subjects.worker_call(), cb=self._called)
        self._task = asyncio.create_task(self._run(), name="worker-signs")

    async def drain(self) -> None:
        """Tell that no new work is taken."""
        self._draining = True
        await self._tell(whole=False)

    async def stop(self) -> None:
        """Tell that the worker is gone."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._tell(whole=False, stopped=True)

    async def _run(self) -> None:
        count = 0
        while True:
            await self._tell(whole=count % WHOLE_EVERY == 0)
            count += 1
            await asyncio.sleep(EVERY)

    async def _called(self, _: Msg) -> None:
        await self._tell(whole=True)

    async def _tell(self, *, whole: bool, stopped: bool = False) -> None:
        attempts, problem = self._present()
        sign = msgspec.structs.replace(
            self._about,
            time=datetime.now(UTC),
            draining=self._draining,
            stopped=stopped,
            problem=problem,
            jobs=len(attempts),
            handlers=tuple(
                HandlerInfo(name=one.name, lane=one.lane, payload=one.schema() if whole else None)
                for one in self._handlers
            ),
            running=tuple(
                RunningJob(id=one.id, name=one.name, attempt=one.attempt, since=one.started_at)
                for one in islice(attempts, RUNNING_SHOWN)
            ),
        )
        try:
            await self._bus.publish(self._bus.subjects.worker(sign.name), _encode(sign))
        except PenstockError as error:
            log.warning("no sign of life could be given: %s", error)


def about(
    name: str, application: str | None, queues: tuple[str, ...], concurrency: int, lease: float
) -> WorkerSign:
    """What stays the same in all signs of a worker that starts now."""
    now = datetime.now(UTC)
    return WorkerSign(
        name=name,
        host=socket.gethostname(),
        pid=os.getpid(),
        started=now,
        time=now,
        penstock=_penstock(),
        version=application,
        queues=queues,
        concurrency=concurrency,
        lease=lease,
    )


def _penstock() -> str:
    try:
        return version("penstock")
    except PackageNotFoundError:
        return "unknown"
