"""What a worker could do at best: two fenced events and an acknowledgement a job, in batches.

No leases, no tasks, no conflicts, no envelopes beyond what is stored: a loop on the bus alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from nats.aio.msg import Msg

from benchmarks.jobs.programs import jobs as specs
from benchmarks.jobs.system import System
from penstock.contracts.envelope import Envelope, decode, encode, unwrap, wrap
from penstock.contracts.jobs import SERVICE, JobCompleted, JobQueued, JobReady, JobStarted
from penstock.contracts.subjects import EXPECTED
from penstock.infra.bus import Bus, Message
from penstock.infra.commit import publish_batch
from penstock.infra.consuming.consumers import ACK, ensure_consumer

GROUP, PULLS = 400, 4
AT_ONCE = 8  # groups


def _event(data: object, job: str, version: int) -> Envelope:
    return wrap(
        data,  # type: ignore[arg-type]
        id=f"{job}:{version}",
        subject=job,
        time=datetime.now(UTC),
        correlationid=job,
        causationid=f"{job}:{version - 1}",
        version=version,
    )


class _Loop:
    """Takes work items as they come and answers them group by group."""

    def __init__(self, bus: Bus, count: int) -> None:
        self._bus = bus
        self._left = count
        self._group: list[Msg] = []
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self.done = asyncio.get_running_loop().create_future()

    async def take(self, msg: Msg) -> None:
        if not msg.reply.startswith("$JS.ACK"):
            return
        self._group.append(msg)
        self._left -= 1
        if len(self._group) == GROUP or not self._left:
            group, self._group = self._group, []
            task = asyncio.create_task(self._work(group))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.done.set_exception(error)
        elif not self._left and not self._tasks:
            self.done.set_result(None)

    async def _work(self, group: list[Msg]) -> None:
        async with self._slots:
            await self._answer(group)

    async def _answer(self, group: list[Msg]) -> None:
        items = [decode(msg.data) for msg in group]
        ready: list[JobReady] = [unwrap(item) for item in items]
        ids = [item.subject for item in items]
        started = JobStarted(attempt=1, worker="bare", item=1)
        first = await self._store(ids, [started] * len(ids), 2, [r.sequence for r in ready])
        ended = [JobCompleted(attempt=1, result=n) for n in range(len(ids))]
        await self._store(ids, ended, 3, [first + n for n in range(len(ids))])
        await self._bus.publish_many([(msg.reply, ACK, {}) for msg in group])

    async def _store(
        self, ids: list[str], events: Sequence[object], version: int, after: list[int]
    ) -> int:
        """The sequence of the first one."""
        subject = self._bus.subjects.event
        batch: list[Message] = [
            (subject(SERVICE, id), encode(_event(data, id, version)), {EXPECTED: str(sequence)})
            for id, data, sequence in zip(ids, events, after, strict=True)
        ]
        return await publish_batch(self._bus, batch, timeout=60) - len(batch) + 1


async def bare(there: System, count: int, payload: int) -> float:
    """Jobs a second, in a process that does nothing else."""
    bus = there.ps.session.bus
    await _fill(bus, count, payload)
    stream, subject = bus.subjects.stream("work"), bus.subjects.work_of("default", 5)
    await ensure_consumer(bus, stream, "bare", subject, 30)
    loop = _Loop(bus, count)
    inbox = bus.nc.new_inbox()
    await bus.nc.receive(inbox, loop.take)
    started = time.perf_counter()
    for asked in range(0, count, GROUP * PULLS):
        request = b'{"batch":%d,"expires":60000000000}' % min(GROUP * PULLS, count - asked)
        await bus.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.bare", request, reply=inbox)
    await asyncio.wait_for(loop.done, 600)
    return count / (time.perf_counter() - started)


async def _fill(bus: Bus, count: int, payload: int) -> None:
    """Store the events of jobs that wait, and their work items."""
    all_specs = list(specs(count, payload))
    for at in range(0, count, 500):
        some = [(f"bare-{at + n}", spec) for n, spec in enumerate(all_specs[at : at + 500])]
        queued = [_event(JobQueued(name=s.name, payload=s.payload), id, 1) for id, s in some]
        events: list[Message] = [
            (bus.subjects.event(SERVICE, e.subject), encode(e), {EXPECTED: "0"}) for e in queued
        ]
        first = await publish_batch(bus, events, timeout=60) - len(events) + 1
        await publish_batch(
            bus, [_item(bus, e, first + n) for n, e in enumerate(queued)], timeout=60
        )


def _item(bus: Bus, queued: Envelope, sequence: int) -> Message:
    data: JobQueued = unwrap(queued)
    ready = JobReady(
        name=data.name,
        payload=msgspec.Raw(msgspec.json.encode(data.payload)),
        attempt=1,
        max_attempts=3,
        backoff=data.backoff,
        sequence=sequence,
    )
    return (
        bus.subjects.work("default", 5, queued.subject),
        encode(_event(ready, queued.subject, 1)),
        {},
    )
