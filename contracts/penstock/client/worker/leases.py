"""Keeps the leases of the jobs in hand, in a thread and on a connection of its own.

So a handler that blocks the event loop does not lose its job. Notices jobs that moved on without
their worker. Never runs, stores or acknowledges anything.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from penstock.client.penstock import Penstock
from penstock.contracts.errors import PenstockError
from penstock.contracts.jobs import SERVICE
from penstock.infra.bus import Bus
from penstock.infra.consuming.consumers import IN_PROGRESS

log = logging.getLogger(__name__)

TURNS = 2  # looks from one renewal of a lease to the next: it is taken between two of them
AT_ONCE = 100  # jobs looked up in one request
CONNECT_SECONDS = 15.0


class Held(Protocol):
    """A work item in hand. `sequence` is that of the last event that its holder wrote, 0 for none,
    and `is_writing` is set while it writes another.
    """

    reply: str
    sequence: int
    is_writing: bool

    @property
    def id(self) -> str:
        """The job's."""
        ...

    @property
    def name(self) -> str:
        """The job's, and its handler's."""
        ...

    @property
    def on_loop(self) -> bool:
        """Whether its handler runs on the worker's loop."""
        ...

    def lost(self) -> None:
        """The job has moved on without its holder; called on the worker's loop."""
        ...


class Leases:
    """Renews what it holds every third of `lease` seconds, from `start` to `stop`.

    What is held for a shorter time, as most jobs are, costs nothing.
    """

    def __init__(self, connection: Penstock, lease: float, failed: Callable[[], None]) -> None:
        self._connection = connection
        self._interval = lease / 3
        self._turn = 0
        self._asked = self._answered = 0  # looks whether the loop runs
        self._is_blocked = False
        self._failed = failed
        self._held: dict[Held, int] = {}  # the turn in which it is to be renewed
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="penstock-leases", daemon=True)

    async def start(self) -> None:
        """Connect and begin. Raises Unavailable."""
        self._worker = asyncio.get_running_loop()
        self._connected = self._worker.create_future()
        self._thread.start()
        await asyncio.wait_for(self._connected, CONNECT_SECONDS)

    async def stop(self) -> None:
        """Renew nothing more, and disconnect."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopped.set)
            await asyncio.to_thread(self._thread.join, CONNECT_SECONDS)

    def hold(self, held: Held) -> None:
        """Renew from now on."""
        with self._lock:
            self._held[held] = self._turn + TURNS

    def release(self, held: Held) -> None:
        """Renew no more."""
        with self._lock:
            self._held.pop(held, None)

    def _ended(self, error: Exception) -> None:
        if not self._connected.done():
            self._connected.set_exception(error)
            return
        log.error("leases are no longer renewed", exc_info=error)
        self._failed()

    # -- in the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._keep())
        except Exception as error:  # noqa: BLE001 - raised by `start`, or ends the worker
            self._worker.call_soon_threadsafe(self._ended, error)

    async def _keep(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        async with self._connection as ps:
            self._worker.call_soon_threadsafe(self._connected.set_result, None)
            while not self._stopped.is_set():
                try:
                    await asyncio.wait_for(self._stopped.wait(), self._interval / TURNS)
                except TimeoutError:
                    self._turn += 1
                    if self._turn % TURNS == 0:
                        self._look_for_blocked_loop()
                    await self._renew(ps.session.bus)

    def _look_for_blocked_loop(self) -> None:
        """Say once that the loop stands still: nothing was run on it since the last look."""
        blocked = self._answered < self._asked
        if blocked and not self._is_blocked:
            with self._lock:
                names = sorted({one.name for one in self._held if one.on_loop})
            log.warning(
                "the worker's event loop has been blocked for %.1f s or more, by one of: %s; "
                "its jobs are kept, but nothing else runs: use `def` instead of `async def` there",
                self._interval,
                ", ".join(names),
            )
        self._is_blocked = blocked
        if not blocked:
            self._asked += 1
            self._worker.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        self._answered = self._asked

    @property
    def is_loop_blocked(self) -> bool:
        """Whether the worker's loop stood still at the last look."""
        return self._is_blocked

    async def _renew(self, bus: Bus) -> None:
        with self._lock:
            held = [one for one, turn in self._held.items() if turn <= self._turn]
            self._held.update(dict.fromkeys(held, self._turn + TURNS))
        try:
            for one in held:
                await bus.publish(one.reply, IN_PROGRESS)
            started = [one for one in held if one.sequence]
            for first in range(0, len(started), AT_ONCE):
                await self._look_for_lost(bus, started[first : first + AT_ONCE])
        except PenstockError as error:
            log.warning("leases could not be renewed or looked after now: %s", error)

    async def _look_for_lost(self, bus: Bus, held: Sequence[Held]) -> None:
        subjects = [bus.subjects.event(SERVICE, one.id) for one in held]
        stream = bus.subjects.event_stream(SERVICE)
        request = {"multi_last": sorted(set(subjects))}
        found = await bus.direct_get(stream, request, timeout=self._interval)
        last = {message.subject: message.sequence for message in found}
        for one, subject in zip(held, subjects, strict=True):
            if last.get(subject, 0) > one.sequence and not one.is_writing:
                self.release(one)
                self._worker.call_soon_threadsafe(one.lost)
