"""Our event log over any application recorder of the `eventsourcing` library.

In memory, SQLite, PostgreSQL: for tests without a server, or where a database is to be the store.
Never deletes: the library's recorders cannot.
"""

from __future__ import annotations

import asyncio
from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from eventsourcing.persistence import (
    ApplicationRecorder,
    IntegrityError,
    InterfaceError,
    Notification,
    OperationalError,
    StoredEvent,
)

from penstock.contracts.envelope import Envelope, decode, encode
from penstock.contracts.errors import Refused, Unavailable
from penstock.contracts.subjects import token
from penstock.infra.event_log import Appended, Loaded, Recorded, only_aggregate, stored_before

T = TypeVar("T")
PAGE = 1000


class RecorderEventLog:
    """`EventLog` over `recorder`, whose ids of aggregates must be text. `close` it at the end.

    How the terms map. A *sequence* is the id of the notification. An *expected* sequence says how
    many events its aggregate had then, and the new ones get the versions behind that; since the
    recorder lets a version in once, of two writers at the same place one gets Conflict, also when
    they are in different processes. `Envelope.version` is not looked at.

    The library does not tell the id of an aggregate's event, so an index is kept in memory: eight
    bytes an event, and one pass over all notifications at the first use. What other processes
    append is found by asking each `poll` seconds.
    """

    def __init__(self, recorder: ApplicationRecorder, *, poll: float = 0.1) -> None:
        self._recorder = recorder
        self._poll = poll
        # One thread: looking and inserting are one step among the callers of this log.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="recorder-event-log")
        self._places: defaultdict[str, array[int]] = defaultdict(lambda: array("Q"))
        self._indexed = 0
        self._news = asyncio.Event()

    async def close(self) -> None:
        """Finish what is under way. The recorder stays open."""
        await asyncio.to_thread(self._thread.shutdown)

    async def append(
        self, events: Sequence[Envelope], *, expected: int, command_id: str | None = None
    ) -> Appended:
        """See `EventLog.append`."""
        token(only_aggregate(events))  # the ids that every event log takes
        appended = await self._run(lambda: self._append(events, expected, command_id))
        self._news.set()
        return appended

    async def load(self, id: str, *, after: int = 0) -> Loaded:
        """See `EventLog.load`."""
        return await self._run(lambda: self._load(id, after))

    async def read(self, *, after: int = 0) -> AsyncIterator[Recorded]:
        """See `EventLog.read`."""
        end = await self._run(self._recorder.max_notification_id) or 0
        while page := await self._page(after, end):
            for record in page:
                yield record
            after = page[-1].sequence

    async def follow(self, *, after: int = 0) -> AsyncIterator[Recorded]:
        """See `EventLog.follow`."""
        while True:
            self._news.clear()
            page = await self._page(after, None)
            for record in page:
                yield record
                after = record.sequence
            if not page:
                await self._wait()

    async def erase(self, id: str, tombstone: Envelope) -> None:
        """Raises Refused: a recorder of the library keeps every event."""
        raise Refused(
            f"{id!r} cannot be erased: this event log stands on a recorder that keeps every event; "
            "use JetStream where data must be erasable."
        )

    # -- on the thread -----------------------------------------------------------------------

    def _append(
        self, events: Sequence[Envelope], expected: int, command_id: str | None
    ) -> Appended:
        self._index()
        id = events[0].subject
        places = self._places.get(id, array("Q"))
        if (places[-1] if places else 0) == expected:
            try:
                ids = self._recorder.insert_events(_stored(events, len(places) + 1))
            except IntegrityError:
                self._index()  # another process was quicker
            else:
                assert ids is not None, "an application recorder tells the ids"
                self._places[id].extend(ids)
                return Appended(ids[-1])
        since = self._load(id, expected)
        return stored_before(since, events, expected, command_id)

    def _load(self, id: str, after: int) -> Loaded:
        self._index()
        places = self._places.get(id, array("Q"))
        known = bisect_right(places, after)
        stored = self._recorder.select_events(id, gt=known, lte=len(places))
        events = tuple(
            Recorded(place, decode(event.state))
            for place, event in zip(places[known:], stored, strict=True)
        )
        return Loaded(events, places[-1] if places else 0)

    def _index(self) -> None:
        """Note where each event stands that was recorded since."""
        while True:
            page = self._recorder.select_notifications(
                self._indexed, PAGE, inclusive_of_start=False
            )
            for notification in page:
                self._note(notification)
            if len(page) < PAGE:
                return

    def _note(self, notification: Notification) -> None:
        self._indexed = notification.id
        places = self._places[str(notification.originator_id)]
        if len(places) < notification.originator_version:  # else it is noted by `_append`
            places.append(notification.id)

    # -- off the thread ----------------------------------------------------------------------

    async def _page(self, after: int, end: int | None) -> list[Recorded]:
        page = await self._run(
            lambda: self._recorder.select_notifications(after, PAGE, end, inclusive_of_start=False)
        )
        return [Recorded(n.id, decode(n.state)) for n in page]

    async def _wait(self) -> None:
        try:
            await asyncio.wait_for(self._news.wait(), self._poll)
        except TimeoutError:
            return  # time to ask what other processes did

    async def _run(self, call: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, call)
        except (InterfaceError, OperationalError) as error:
            raise Unavailable(f"The recorder cannot be reached now: {error}") from error


def _stored(events: Sequence[Envelope], version: int) -> list[StoredEvent]:
    return [
        StoredEvent(event.subject, position, event.type, encode(event))
        for position, event in enumerate(events, version)
    ]
