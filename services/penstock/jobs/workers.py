"""The workers, as their signs of life tell: a table in memory, new at each start.

Holds a bounded number of them, and forgets who is silent for long. Never stores anything.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Literal

import msgspec
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from penstock.contracts.errors import PenstockError
from penstock.contracts.job_reads import WorkerSeen
from penstock.contracts.workers import HandlerInfo, WorkerSign
from penstock.infra.bus import Bus

log = logging.getLogger(__name__)

LOST = 10.0  # seconds of silence
FORGOTTEN = 300.0
MOST = 2_000  # workers
NAMES = 10_000  # of handlers, of which it is known when somebody had one

_decode = msgspec.json.Decoder(WorkerSign).decode


class _Seen(msgspec.Struct):
    sign: WorkerSign
    heard: float  # on the monotonic clock
    handlers: dict[str, HandlerInfo]


class Workers:
    """A `Part` that listens; the table may be read from any thread."""

    def __init__(self, bus: Bus, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._bus = bus
        self._clock = clock
        self._table: dict[str, _Seen] = {}
        self._heard: dict[str, float] = {}  # when somebody last had a handler of the name
        self._listening = clock()
        self._subscription: Subscription | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self.changes = 0  # goes up whenever there may be other handlers

    async def start(self) -> None:
        """Listen, and ask everybody for a sign."""
        subject = self._bus.subjects.worker("*")
        self._subscription = await self._bus.nc.subscribe(subject, cb=self._sign)
        self._bus.listeners.add(self._connected)
        self._connected()

    async def stop(self) -> None:
        """Listen no more."""
        self._bus.listeners.discard(self._connected)
        if self._subscription and not self._bus.nc.is_closed:
            await self._subscription.unsubscribe()
        await asyncio.gather(*self._calls, return_exceptions=True)

    def problem(self) -> str | None:
        """None: without signs, nobody is known and everything goes on."""
        return None

    def seen(self) -> list[WorkerSeen]:
        """Everybody who is not forgotten, by name."""
        now = self._clock()
        return [_seen(one, now) for _, one in sorted(self._table.copy().items())]

    def alive(self) -> list[WorkerSign]:
        """The last signs of those who work, or finish what they have."""
        return [one.sign for one in self._alive()]

    def handlers(self) -> dict[str, list[tuple[str, HandlerInfo]]]:
        """Each name of jobs with who can do it: workers by name, with their last whole sign."""
        found: dict[str, list[tuple[str, HandlerInfo]]] = {}
        for one in self._alive():
            for name, handler in one.handlers.items():
                found.setdefault(name, []).append((one.sign.name, handler))
        return found

    def are_known(self) -> bool:
        """Whether it was listened long enough: who lives and did not say so by now is lost."""
        return self._clock() - self._listening >= LOST

    def missing_for(self, name: str) -> float:
        """For how many seconds nobody had a handler of the name, as far as that was listened to."""
        return self._clock() - max(self._listening, self._heard.get(name, self._listening))

    def hear(self, sign: WorkerSign) -> None:
        """Take a sign of life."""
        now = self._clock()
        before = self._table.pop(sign.name, None)
        known = before.handlers if before and before.sign.started == sign.started else {}
        handlers = {one.name: _whole(one, known.get(one.name)) for one in sign.handlers}
        if before is None or handlers != before.handlers or sign.stopped != before.sign.stopped:
            self.changes += 1
        self._table[sign.name] = _Seen(sign, now, handlers)
        if not sign.stopped:
            for name in handlers:
                self._heard.pop(name, None)
                self._heard[name] = now
        self._forget(now)

    def _alive(self) -> Iterable[_Seen]:
        now = self._clock()
        for one in self._table.copy().values():
            if not one.sign.stopped and now - one.heard < LOST:
                yield one

    def _forget(self, now: float) -> None:
        """Both are in the order in which they were heard of."""
        while self._table:
            name, oldest = next(iter(self._table.items()))
            if len(self._table) <= MOST and now - oldest.heard < FORGOTTEN:
                break
            del self._table[name]
        while len(self._heard) > NAMES:
            del self._heard[next(iter(self._heard))]

    async def _sign(self, msg: Msg) -> None:
        try:
            self.hear(_decode(msg.data))
        except msgspec.DecodeError as error:  # of a version to come
            log.warning("a worker's sign of life cannot be read: %s", error)

    def _connected(self) -> None:
        """Nothing was heard meanwhile, which says nothing about who lives."""
        self._listening = self._clock()
        task = asyncio.get_running_loop().create_task(self._call(), name="worker-call")
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _call(self) -> None:
        try:
            await self._bus.publish(self._bus.subjects.worker_call(), b"")
        except PenstockError as error:
            log.warning("workers give their signs by themselves; they cannot be asked: %s", error)


def _whole(handler: HandlerInfo, before: HandlerInfo | None) -> HandlerInfo:
    """Most signs leave out the schemas: those of an earlier one hold."""
    if handler.payload is not None or before is None:
        return handler
    return msgspec.structs.replace(handler, payload=before.payload)


def _seen(one: _Seen, now: float) -> WorkerSeen:
    sign, silent = one.sign, max(0.0, now - one.heard)
    fields: dict[str, Any] = {
        name: getattr(sign, name)
        for name in ("name", "host", "pid", "started", "penstock", "version", "queues",
                     "concurrency", "lease", "problem", "jobs", "running")
    }  # fmt: skip
    handlers = tuple(sorted(one.handlers))
    return WorkerSeen(
        status=_status(sign, silent), silent=round(silent, 3), handlers=handlers, **fields
    )


def _status(sign: WorkerSign, silent: float) -> Literal["working", "draining", "stopped", "lost"]:
    if sign.stopped:
        return "stopped"
    if silent >= LOST:
        return "lost"
    return "draining" if sign.draining else "working"
