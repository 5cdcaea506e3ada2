"""`Worker`: runs the handlers of an application for the jobs that wait. Talks to NATS alone.

Never decides what becomes of a job: see `decisions`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import uuid
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial

from nats.aio.msg import Msg

from penstock.client.penstock import Penstock
from penstock.client.worker.attempt import Attempt
from penstock.client.worker.child import CHILD
from penstock.client.worker.crew import Appending, Crew
from penstock.client.worker.declared import put_all
from penstock.client.worker.leases import Leases
from penstock.client.worker.processes import Processes
from penstock.client.worker.registry import Handlers
from penstock.client.worker.signs import Signs, about
from penstock.client.worker.station import STOPPING, Station
from penstock.client.worker.threads import Threads
from penstock.contracts.envelope import decode, unwrap
from penstock.contracts.errors import InvalidMessage, Unavailable
from penstock.contracts.jobs import PRIORITIES, SERVICE, JobReady
from penstock.contracts.subjects import Subjects, token
from penstock.infra.append_many import Appends
from penstock.infra.bus import Bus
from penstock.infra.consuming.consumers import Delivery, nak_after
from penstock.infra.consuming.lanes import Lane, Lanes
from penstock.infra.event_log import Durability, JetStreamEventLog
from penstock.infra.garbage import look_seldom
from penstock.infra.pipelined_appends import PipelinedAppends
from penstock.infra.timers import Timers

log = logging.getLogger(__name__)

FLUSH = 5.0  # seconds for storing how the last jobs ended
# Seconds that an item without a handler here waits for another worker: at first, and at most.
FIRST_REFUSAL, LONGEST_REFUSAL = 0.1, 5.0


class Worker(Handlers):
    """Takes jobs from `queues` and runs up to `concurrency` of them at a time.

    Use `run()` as the program, or `async with worker` beside other work. Async handlers run on the
    loop, others in threads or in up to `processes` processes. `lease` is in seconds: a worker that
    dies is noticed after that, and its jobs go elsewhere. A handler that is told to stop gets
    `stop_grace` seconds; on shutdown running jobs get `grace` seconds to end, and then they are
    given back without spending an attempt. `version` is the application's own, to be seen in the
    list of workers. `url` and `prefix` are as for `Penstock`; `durability` is the system's own
    setting, which decides how fast events are stored and nothing else.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        queues: Sequence[str] = ("default",),
        concurrency: int = 10,
        processes: int | None = None,
        lease: float = 5.0,
        grace: float = 20.0,
        stop_grace: float = STOPPING,
        name: str | None = None,
        version: str | None = None,
        prefix: str = "penstock",
        durability: Durability = "fsync",
    ) -> None:
        super().__init__()
        if concurrency < 1 or lease < 1 or not queues or (processes is not None and processes < 1):
            raise ValueError("A worker needs a queue, a concurrency and a lease of at least 1.")
        self.name = name or f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self.queues = tuple(dict.fromkeys(queues))
        self.concurrency = concurrency
        self._url = url
        self._processes = processes or min(concurrency, os.cpu_count() or 1)
        self._lease = lease
        self._grace = grace
        self._stop_grace = stop_grace
        self._version = version
        self._prefix = prefix
        self._durability = durability
        self._unknown: set[str] = set()
        self._open: AsyncExitStack | None = None

    def configure(
        self, *, queues: Sequence[str] | None = None, concurrency: int | None = None
    ) -> None:
        """Set options anew before it is started; None leaves one. Raises ValueError."""
        self.queues = self.queues if queues is None else tuple(dict.fromkeys(queues))
        self.concurrency = self.concurrency if concurrency is None else concurrency
        if self.concurrency < 1 or not self.queues:
            raise ValueError("A worker needs a queue, and a concurrency of at least 1.")

    # -- running -----------------------------------------------------------------------------

    def run(self) -> None:
        """Work until SIGTERM or SIGINT, then drain; a second signal cuts the grace short.

        Raises Unavailable if there is no system to work for.
        """
        if CHILD in os.environ:  # a process of the lane imports the program, to find its handlers
            return
        asyncio.run(self._run())

    async def serve(self) -> None:
        """Work until cancelled, then drain. Raises Unavailable, also if leases cannot be kept."""
        async with self:
            await self._broken

    async def __aenter__(self) -> Worker:
        async with AsyncExitStack() as stack:
            await self._start(stack)
            self._open = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.drain()

    async def drain(self) -> None:
        """Take no new work, finish or give back what is running, disconnect."""
        stack, self._open = self._open, None
        if stack is not None:
            async with stack:
                await self._signs.drain()
                await self._lanes.stop()
                await self._finish()

    def problem(self) -> str | None:
        """Why this worker does not do its work, or None."""
        if self._open is None:
            return "it is not running"
        if not self._station.ps.session.bus.nc.is_connected:
            return "it is not connected to NATS"
        if self._broken.done():
            return "its leases are not renewed"
        if self._leases.is_loop_blocked:
            return "a handler blocks its event loop"
        return self._lanes.problem()

    @property
    def refused(self) -> frozenset[str]:
        """Names of jobs that came to this worker and that it has no handler for."""
        return frozenset(self._unknown)

    async def _run(self) -> None:
        look_seldom()
        loop = asyncio.get_running_loop()
        serving = asyncio.create_task(self.serve())

        def stop() -> None:
            if serving.cancelling():
                self._hand_back()
            else:
                serving.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        await asyncio.wait({serving})
        if not serving.cancelled():
            await serving

    async def _start(self, stack: AsyncExitStack) -> None:
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ps = await stack.enter_async_context(self._client())
        self._leases = Leases(self._client(), self._lease, self._lost_leases)
        threads = Threads(self.concurrency, self.name)
        processes = Processes(self._processes, self.name, self._client)
        bus = ps.session.bus
        event_log = JetStreamEventLog(bus, SERVICE, durability=self._durability)
        timers = Timers(bus, SERVICE)
        self._station = Station(
            self.name, ps, event_log, timers, threads, processes, stopping=self._stop_grace
        )
        self._lanes = Lanes(
            bus,
            bus.subjects.stream("work"),
            [lane(bus.subjects, queue, p) for queue in self.queues for p in PRIORITIES],
            capacity=self.concurrency,
            ack_wait=self._lease,
            take=self._take,
        )
        self._crew = Crew(bus, self._leases, self._appends(bus), self._lanes.done)
        self._signs = Signs(
            bus,
            about(self.name, self._version, self.queues, self.concurrency, self._lease),
            list(self),
            lambda: (list(self._crew.attempts), self.problem()),
        )
        stack.callback(threads.stop)
        stack.push_async_callback(processes.stop)
        await self._leases.start()
        stack.push_async_callback(self._leases.stop)
        await put_all(ps.session, self.schedules)
        await bus.nc.subscribe(bus.subjects.withdrawn(), cb=self._withdrawn)
        await self._lanes.start()
        await self._signs.start()
        stack.push_async_callback(self._signs.stop)

    @property
    def _client(self) -> Callable[[], Penstock]:
        """Makes a client as its own; for other processes as well."""
        return partial(Penstock, self._url, actor=self.name, prefix=self._prefix)

    def _appends(self, bus: Bus) -> Appending:
        """One by one where that costs the server less: it syncs nothing and agrees with nobody."""
        if self._durability == "os" and not bus.nc.is_clustered:
            return PipelinedAppends(bus)
        return Appends(bus)

    def _lost_leases(self) -> None:
        if not self._broken.done():
            self._broken.set_exception(
                Unavailable("The leases are no longer renewed; see the log.")
            )

    # -- work --------------------------------------------------------------------------------

    async def _take(self, msg: Msg, item: Delivery) -> None:
        try:
            work = decode(msg.data)
            ready: JobReady = unwrap(work)
        except InvalidMessage as error:  # by a newer version, whose workers can read it
            await self._refuse(item, msg.reply, f"of type {error.fields.get('path')}", str(error))
            return
        handler = self._handlers.get(ready.name)
        if handler is None:
            await self._refuse(item, msg.reply, ready.name, "this worker has no handler for it")
            return
        self._crew.take(Attempt(self._station, handler, work, ready, item, msg.reply))

    async def _withdrawn(self, msg: Msg) -> None:
        """A job is not to be run any more: it may be in hand here."""
        id = msg.data.decode("utf-8", "replace")
        for attempt in [attempt for attempt in self._crew.attempts if attempt.id == id]:
            attempt.lost()

    async def _refuse(self, item: Delivery, reply: str, name: str, why: str) -> None:
        """Give an item back so that another worker may take it, a little later each time."""
        if name not in self._unknown:
            self._unknown.add(name)
            log.warning("jobs %r are left to other workers: %s", name, why)
        delay = min(LONGEST_REFUSAL, FIRST_REFUSAL * 2 ** min(item.count - 1, 10))
        await self._station.ps.session.bus.publish(reply, nak_after(delay))
        self._lanes.done()

    # -- draining ----------------------------------------------------------------------------

    async def _finish(self) -> None:
        """Wait for what runs; what is left after the grace is stopped and given back."""
        await self._crew.wait(self._grace)
        self._hand_back()
        await self._crew.wait(self._stop_grace + FLUSH)
        await self._crew.close()
        await self._station.log.close()

    def _hand_back(self) -> None:
        self._crew.stop("shutdown")


def lane(subjects: Subjects, queue: str, priority: int) -> Lane:
    """The consumer of one queue and priority, which all workers share."""
    return Lane(f"{token(queue)}-{priority}", subjects.work_of(queue, priority), priority)
