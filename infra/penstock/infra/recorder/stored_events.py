"""Records and reads the library's stored events in one JetStream stream.

What is recorded together is one atomic batch. Never maps or interprets a state.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from eventsourcing.persistence import IntegrityError, Notification, StoredEvent, Tracking

from penstock.contracts.errors import Timeout, Unavailable
from penstock.contracts.subjects import EXPECTED
from penstock.infra.bus import Bus, Message, Stored, StreamError
from penstock.infra.commit import publish_batch
from penstock.infra.event_log import READ_BATCH, READ_BYTES, RETRY, WRONG_LAST_SEQUENCE
from penstock.infra.follower import Follower
from penstock.infra.recorder.heads import NONE, Head, Heads
from penstock.infra.recorder.layout import Id, Layout, read_body


class StoredEvents:
    """The events and trackings of one recorder. The stream must exist.

    Raises the library's IntegrityError for what is recorded already; all else are our errors.
    """

    def __init__(self, bus: Bus, layout: Layout, *, timeout: float = 10.0) -> None:
        self.layout = layout
        self._bus = bus
        self._timeout = timeout
        self._heads = Heads()

    # -- recording ---------------------------------------------------------------------------

    async def insert(
        self, events: Sequence[StoredEvent], tracking: Tracking | None = None
    ) -> list[int]:
        """Record all or nothing; the sequences of the events.

        Raises IntegrityError if a version of an aggregate, or a position of an upstream
        application, is not beyond the last one recorded.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        unsure = False
        while True:
            try:
                return await self._publish(await self._messages(events, tracking), events)
            except IntegrityError:
                if unsure and await self._is_stored(events, tracking):
                    return await self._sequences(events)
                raise
            except StreamError as error:
                if error.err_code not in WRONG_LAST_SEQUENCE or loop.time() > deadline:
                    raise
            except Unavailable as error:
                if loop.time() > deadline:
                    raise
                unsure |= isinstance(error, Timeout)
                await asyncio.sleep(RETRY)
            for event in events:
                self._heads.forget(str(event.originator_id))

    async def _messages(
        self, events: Sequence[StoredEvent], tracking: Tracking | None
    ) -> list[Message]:
        messages: list[Message] = []
        last: dict[str, int] = {}
        for event in events:
            id, version = str(event.originator_id), event.originator_version
            headers = {} if id in last else {EXPECTED: str(await self._expected(id, version))}
            if version <= last.get(id, version - 1):
                raise IntegrityError(f"Version {version} of {id} comes twice or out of order.")
            last[id] = version
            messages.append((self.layout.subject(id), self.layout.body(event), headers))
        if tracking is not None:
            messages.append(await self._tracking_message(tracking))
        return messages

    async def _expected(self, id: str, version: int) -> int:
        head = self._heads.get(id) or await self._head(id)
        if head.version is not None and version <= head.version:
            raise IntegrityError(
                f"Version {version} of {id} cannot be recorded: the last one is {head.version}."
            )
        return head.sequence

    async def _tracking_message(self, tracking: Tracking) -> Message:
        last = await self._last(self.layout.tracking(tracking.application_name))
        if last and int(last.data) >= tracking.notification_id:
            raise IntegrityError(
                f"Position {tracking.notification_id} of {tracking.application_name} cannot be "
                f"recorded: the last one is {int(last.data)}."
            )
        headers = {EXPECTED: str(last.sequence if last else 0)}
        subject = self.layout.tracking(tracking.application_name)
        return subject, b"%d" % tracking.notification_id, headers

    async def _publish(self, messages: list[Message], events: Sequence[StoredEvent]) -> list[int]:
        timeout = self._timeout / 2
        match messages:
            case []:
                return []
            case [(subject, body, headers)]:
                ack = await self._bus.publish_acked(subject, body, headers, timeout=timeout)
                last = ack.seq
            case _:
                last = await publish_batch(self._bus, messages, timeout=timeout)
        first = last - len(messages) + 1
        for sequence, event in enumerate(events, first):
            self._heads.put(str(event.originator_id), Head(event.originator_version, sequence))
        return list(range(first, first + len(events)))

    async def _is_stored(self, events: Sequence[StoredEvent], tracking: Tracking | None) -> bool:
        """Whether an attempt without an answer had been stored."""
        if tracking and await self.tracked(tracking.application_name) != tracking.notification_id:
            return False
        ids = {event.originator_id for event in events}
        stored = [event for id in ids for event in await self.select(id)]
        return all(event in stored for event in events)

    async def _sequences(self, events: Sequence[StoredEvent]) -> list[int]:
        places: dict[tuple[str, int], int] = {}
        for id in {str(event.originator_id) for event in events}:
            async for message in self._scan(self.layout.subject(id)):
                places[id, read_body(message.data).version] = message.sequence
        return [places[str(event.originator_id), event.originator_version] for event in events]

    # -- reading -----------------------------------------------------------------------------

    async def select(
        self,
        id: Id,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> list[StoredEvent]:
        """An aggregate's events by version, as `AggregateRecorder.select_events` has it."""
        subject = self.layout.subject(id)
        if desc and limit == 1 and gt is None and lte is None:
            last = await self._last(subject)
            return [self.layout.event(last)] if last else []
        found: list[StoredEvent] = []
        async for message in self._scan(subject, self._start(str(id), gt)):
            event = self.layout.event(message)
            if lte is not None and event.originator_version > lte:
                break
            if gt is None or event.originator_version > gt:
                found.append(event)
            if not desc and len(found) == limit:
                break
        return found[::-1][:limit] if desc else found

    def _start(self, id: str, gt: int | None) -> int:
        """Behind the event of version `gt`, if it is known where that stands."""
        head = self._heads.get(id)
        return head.sequence + 1 if head and gt is not None and gt == head.version else 1

    async def notifications(
        self, start: int, limit: int, stop: int | None, topics: Sequence[str]
    ) -> list[Notification]:
        """At most `limit` events of all aggregates, from sequence `start` to `stop`."""
        found: list[Notification] = []
        async for message in self._scan(self.layout.events, start, READ_BATCH if topics else limit):
            if stop is not None and message.sequence > stop:
                break
            notification = self.layout.notification(message)
            if not topics or notification.topic in topics:
                found.append(notification)
            if len(found) == limit:
                break
        return found

    async def last_sequence(self) -> int | None:
        """The sequence of the last event of all; None if there is none."""
        last = await self._last(self.layout.events)
        return last.sequence if last else None

    async def tracked(self, application: str) -> int | None:
        """The last position recorded of an upstream application; None if there is none."""
        last = await self._last(self.layout.tracking(application))
        return int(last.data) if last else None

    def follower(self, after: int) -> Follower:
        """The messages of all events beyond a sequence, and on."""
        return Follower(self._bus, self.layout.stream, self.layout.events, after)

    async def _scan(
        self, subject: str, start: int = 1, batch: int = READ_BATCH
    ) -> AsyncIterator[Stored]:
        while True:
            request = {
                "seq": start,
                "next_by_subj": subject,
                "batch": min(batch, READ_BATCH),
                "max_bytes": READ_BYTES,
            }
            found = await self._bus.direct_get(self.layout.stream, request)
            for message in found:
                yield message
            if not found or not found[-1].pending:
                return
            start = found[-1].sequence + 1

    async def _last(self, subject: str) -> Stored | None:
        found = await self._bus.direct_get(self.layout.stream, {"last_by_subj": subject})
        return found[0] if found else None

    async def _head(self, id: str) -> Head:
        last = await self._last(self.layout.subject(id))
        if last:
            self._heads.put(id, Head(read_body(last.data).version, last.sequence))
        return self._heads.get(id) or NONE
