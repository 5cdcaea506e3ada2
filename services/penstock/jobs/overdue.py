"""Finds jobs that nothing will set going, since a killed server lost their timer or item, and sets
them going.

It looks for the jobs whose time is past, and for which there is neither an item nor a timer. Never
decides: what is to be done about such a job follows from its events.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import apsw
import msgspec

from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import SERVICE
from penstock.infra.bus import Bus
from penstock.infra.last_messages import LastMessages
from penstock.infra.repeated import AfterConnecting
from penstock.infra.views import rows
from penstock.infra.views.live_view import LiveView
from penstock.jobs.gate import is_gated

log = logging.getLogger(__name__)

EVERY, SOON = 300.0, 5.0  # seconds between two looks, and between the first after connecting
LATE = 5.0  # seconds after its time from which a job is overdue
PAGE = 1000  # jobs; the server takes no more than 1024 subjects in a question
AT_ONCE = 16
NAMED = 10  # in the log
WAITING = ("pending", "retrying")
BESIDE = ("work", "sched")  # where items and timers are
Place = tuple[str, int, int, str]  # queue, priority, when it is due in milliseconds, id
BEGIN: Place = ("", -1, 0, "")

_decode = msgspec.json.Decoder(JobState).decode


class OverdueJobs:
    """Several instances may look: `reconcile` may be called again for any job.

    Where many jobs wait for a worker it costs a request for each page of them.
    """

    def __init__(
        self,
        bus: Bus,
        model: Callable[[], LiveView[Any]],
        reconcile: Callable[[str], Awaitable[None]],
    ) -> None:
        self._bus = bus
        self._model = model
        self._reconcile = reconcile
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._last = {name: LastMessages(bus, bus.subjects.stream(name)) for name in BESIDE}
        self._events = LastMessages(bus, bus.subjects.event_stream(SERVICE))

    def part(self) -> AfterConnecting:
        """The part of the service that looks again and again."""
        name = "search for jobs that nothing sets going"
        return AfterConnecting(name, self.look, bus=self._bus, every=EVERY, soon=SOON)

    async def look(self) -> None:
        """Look once. Raises PenstockError when the server cannot be asked now."""
        until = int((time.time() - LATE) * 1000)
        place = BEGIN
        while True:
            _, page = await self._model().read(_overdue, place, until)
            if lost := await self._standing(await self._lost(page)):
                log.warning("%d jobs wait for nothing, such as %s", len(lost), lost[:NAMED])
                await asyncio.gather(*map(self._one, lost))
            if len(page) < PAGE:
                return
            place = page[-1]

    async def _one(self, id: str) -> None:
        async with self._slots:
            await self._reconcile(id)

    async def _lost(self, page: Sequence[Place]) -> list[str]:
        """Those of which there is neither an item nor a timer."""
        subjects = self._bus.subjects
        items = {subjects.work(queue, priority, id): id for queue, priority, _, id in page}
        without = await self._missing("work", items)
        timers = {subjects.timer(SERVICE, id): id for id in without}
        dues = {subjects.due(SERVICE, id): id for id in await self._missing("sched", timers)}
        return await self._missing("sched", dues)

    async def _missing(self, stream: str, subjects: dict[str, str]) -> list[str]:
        """The ids whose subjects hold no message."""
        if not subjects:
            return []
        there = await self._last[stream].of(*subjects)
        return [id for subject, id in subjects.items() if subject not in there]

    async def _standing(self, ids: Sequence[str]) -> list[str]:
        """Without those that have moved on, which the view does not know yet, and those that may
        wait for others of their kind: they are looked after elsewhere.
        """
        if not ids:
            return []
        _, jobs = await self._model().read(_states, ids)
        event = self._bus.subjects.event
        last = await self._events.of(*(event(SERVICE, id) for id in ids))
        sequences = {subject: message.sequence for subject, message in last.items()}
        return [
            job.id
            for job, sequence in jobs
            if job.state in WAITING
            and not is_gated(job.rules)
            and sequences.get(event(SERVICE, job.id)) == sequence
        ]


def _overdue(db: apsw.Connection, after: Place, until: int) -> list[Place]:
    found: Iterable[Any] = db.execute(
        f"""SELECT queue, priority, due, id FROM listed
            WHERE state IN ('pending', 'retrying') AND due < ?
              AND (queue, priority, due, id) > (?, ?, ?, ?)
            ORDER BY queue, priority, due, id LIMIT {PAGE}""",
        (until, *after),
    )
    return list(found)


def _states(db: apsw.Connection, ids: Sequence[str]) -> list[tuple[JobState, int]]:
    found = rows.select(db, "state, sequence FROM aggregate WHERE id", ids)
    return [(_decode(body), sequence) for body, sequence in found]
