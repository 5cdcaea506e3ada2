"""The event log over JetStream: one stream a service, one literal subject an aggregate.

Appending is publishing. Concurrency is optimistic, by the expected last sequence of the subject;
what a lost reply left open is decided by what is stored. Never interprets an event's data.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

import msgspec

from penstock.contracts.envelope import Envelope, decode, encode
from penstock.contracts.errors import Conflict, Unavailable
from penstock.contracts.subjects import EXPECTED, TTL
from penstock.infra.bus import Bus, Stored, StreamError
from penstock.infra.commit import Commit, SingleCommit
from penstock.infra.follower import Follower
from penstock.infra.group_commit import GroupCommit
from penstock.infra.storing import REPLY, despite_elections, read

Durability = Literal["fsync", "os"]
WRONG_LAST_SEQUENCE = (10071, 10164)  # one server, and replicated
NO_MESSAGE = 10037
READ_BATCH = 500
# The server closes the connection of a reader for whom 64 MiB wait; it would go up to that.
READ_BYTES = 16 * 1024 * 1024
RETRY = 0.05  # seconds
# Seconds that an append may take. A cluster elects a new leader 4 to 9 s after the death of one.
TIMEOUT = 15.0


class Recorded(msgspec.Struct, frozen=True):
    """An event in the log, with its stream sequence."""

    sequence: int
    event: Envelope


class Loaded(msgspec.Struct, frozen=True):
    """The events of one aggregate; `sequence` is the last one's (0: it has none)."""

    events: tuple[Recorded, ...]
    sequence: int


class Appended(msgspec.Struct, frozen=True):
    """Where events were stored. `again`: an earlier attempt had stored them already."""

    sequence: int
    again: bool = False


class EventLog(Protocol):
    """The event store of one service."""

    async def append(
        self, events: Sequence[Envelope], *, expected: int, command_id: str | None = None
    ) -> Appended:
        """Store events of one aggregate, all or none.

        `expected` is the sequence of the aggregate's last event, 0 for none. Raises Conflict when
        it is another, unless what follows `expected` are these very events, by their ids, or was
        caused by `command_id`: then they had been stored before, and their place is returned.
        """
        ...

    async def load(self, id: str, *, after: int = 0) -> Loaded:
        """The events of one aggregate beyond a sequence."""
        ...

    def read(self, *, after: int = 0) -> AsyncIterator[Recorded]:
        """All events beyond a sequence, to the present end."""
        ...

    def follow(self, *, after: int = 0) -> AsyncIterator[Recorded]:
        """All events beyond a sequence, and then each as it comes."""
        ...

    async def erase(self, id: str, tombstone: Envelope) -> None:
        """Remove the aggregate's events and leave `tombstone` in their place.

        A second time with the same tombstone finishes what the first left undone.
        """
        ...


def only_aggregate(events: Sequence[Envelope]) -> str:
    """The id of the one aggregate that all events belong to. Raises ValueError."""
    ids = {event.subject for event in events}
    if len(ids) != 1:
        raise ValueError(f"An append holds events of one aggregate, not of {len(ids)}.")
    return ids.pop()


def stored_before(
    since: Loaded, events: Sequence[Envelope], expected: int, command_id: str | None
) -> Appended:
    """Where an earlier attempt stored the events of this command, if it did.

    `since` is what the log holds beyond `expected`. An event is of this command if it was caused
    by it or is one of `events`, by its id. Raises Conflict if there is none.
    """
    ids = {event.id for event in events}
    own = [
        record.sequence
        for record in since.events
        if record.event.id in ids or (command_id and record.event.causationid == command_id)
    ]
    if own:
        return Appended(own[-1], again=True)
    raise Conflict(
        f"{events[0].subject!r} was changed by somebody else; load it and decide again.",
        expected=expected,
        actual=since.sequence,
    )


class JetStreamEventLog:
    """`EventLog` over one stream, which must exist. Made once a process and service.

    In `fsync` durability appends that come together are stored as one atomic batch, because the
    server syncs once a batch; in `os` each is published at once, pipelined.
    """

    def __init__(
        self,
        bus: Bus,
        service: str,
        *,
        durability: Durability = "fsync",
        timeout: float = TIMEOUT,
    ) -> None:
        self.bus = bus
        self.service = service
        self.stream = bus.subjects.event_stream(service)
        self._timeout = timeout
        commit = GroupCommit if durability == "fsync" else SingleCommit
        self._commit: Commit = commit(bus, timeout=min(REPLY, timeout / 3))

    async def close(self) -> None:
        """Wait for appends under way."""
        await self._commit.close()

    async def append(
        self,
        events: Sequence[Envelope],
        *,
        expected: int,
        command_id: str | None = None,
        lifetime: float = 0.0,
    ) -> Appended:
        """See `EventLog.append`. Raises Unavailable when the server cannot be reached for long.

        A lost reply is made good by appending again: `expected` lets only one of the two in, and
        what then stands in the log tells which. A single event may have a `lifetime` in seconds,
        after which the server removes it.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        while True:
            try:
                return await self._append(events, expected, command_id, lifetime)
            except Unavailable:
                if loop.time() + RETRY > deadline:
                    raise
            await asyncio.sleep(RETRY)

    async def _append(
        self, events: Sequence[Envelope], expected: int, command_id: str | None, lifetime: float
    ) -> Appended:
        id = only_aggregate(events)
        subject = self.bus.subjects.event(self.service, id)
        bodies = [encode(event) for event in events]
        try:
            if lifetime:
                return Appended(await self._passing(subject, bodies[0], expected, lifetime))
            return Appended(await self._commit.append(subject, bodies, expected))
        except StreamError as error:
            if error.err_code not in WRONG_LAST_SEQUENCE:
                raise
        since = await self.load(id, after=expected)
        if not since.events:  # it does not even reach `expected`
            since = Loaded((), await self._last(subject))
        if since.sequence == expected:
            # What won is not visible yet: it is being replicated, or a replica that lags was asked.
            raise Unavailable(f"What was stored for {id!r} meanwhile cannot be read yet.")
        return stored_before(since, events, expected, command_id)

    async def _passing(self, subject: str, body: bytes, expected: int, lifetime: float) -> int:
        headers = {EXPECTED: str(expected), TTL: f"{max(1, int(lifetime))}s"}
        return (await self.bus.publish_acked(subject, body, headers, timeout=REPLY)).seq

    async def load(self, id: str, *, after: int = 0) -> Loaded:
        """See `EventLog.load`: one round trip for each 500 events."""
        subject = self.bus.subjects.event(self.service, id)
        events = [record async for record in self._scan(subject, after)]
        return Loaded(tuple(events), events[-1].sequence if events else after)

    async def read(self, *, after: int = 0) -> AsyncIterator[Recorded]:
        """See `EventLog.read`."""
        end = await self.last_sequence()
        async for record in self._scan(self.bus.subjects.events(self.service), after):
            if record.sequence > end:
                return
            yield record

    async def follow(self, *, after: int = 0) -> AsyncIterator[Recorded]:
        """See `EventLog.follow`."""
        async with self.follower(after=after) as follower:
            while True:
                for message in await follower.batch():
                    yield Recorded(message.sequence, decode(message.data))

    def follower(self, *, after: int = 0) -> Follower:
        """The raw messages beyond a sequence, in batches as they come: for projections."""
        return Follower(self.bus, self.stream, self.bus.subjects.events(self.service), after)

    async def get(self, sequence: int) -> Recorded | None:
        """One event by its sequence."""
        found = await self._read({"seq": sequence})
        return Recorded(found[0].sequence, decode(found[0].data)) if found else None

    async def sequence_at(self, time: datetime) -> int:
        """The sequence of the first event stored at `time` or later; beyond the end for none."""
        request = {
            "start_time": time.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "next_by_subj": self.bus.subjects.events(self.service),
            "batch": 1,
        }
        found = await self._read(request)
        return found[0].sequence if found else await self.last_sequence() + 1

    async def last_sequence(self) -> int:
        """The sequence of the last event in the log (0: it is empty)."""
        return await self.leaders({"last_by_subj": self.bus.subjects.events(self.service)})

    async def leaders(self, request: dict[str, Any]) -> int:
        """The sequence of the message that the stream's leader gives for a request such as
        `{"seq": n, "next_by_subj": s}` (0: there is none). Other replicas may not have it yet.
        """

        async def attempt(left: float) -> Any:
            return await self.bus.api(f"STREAM.MSG.GET.{self.stream}", request, timeout=left)

        try:
            found = await despite_elections(self.bus, self.stream, attempt, self.bus.timeout)
        except StreamError as error:
            if error.err_code != NO_MESSAGE:
                raise
            return 0
        return int(found["message"]["seq"])

    async def erase(self, id: str, tombstone: Envelope) -> None:
        """See `EventLog.erase`."""
        loaded = await self.load(id)
        done = [r.sequence for r in loaded.events if r.event.id == tombstone.id]
        last = done or [(await self.append([tombstone], expected=loaded.sequence)).sequence]
        # Up to the tombstone, not all but one: somebody may have appended after it.
        await self.purge(id, before=last[0])

    async def purge(self, id: str, *, before: int) -> None:
        """Remove the aggregate's events before a sequence, for good."""
        subject = self.bus.subjects.event(self.service, id)
        await self.bus.api(f"STREAM.PURGE.{self.stream}", {"filter": subject, "seq": before})

    async def _last(self, subject: str) -> int:
        last = await self._read({"last_by_subj": subject})
        return last[0].sequence if last else 0

    async def _scan(self, subject: str, after: int) -> AsyncIterator[Recorded]:
        while True:
            request = {
                "seq": after + 1,
                "next_by_subj": subject,
                "batch": READ_BATCH,
                "max_bytes": READ_BYTES,
            }
            found = await self._read(request)
            for message in found:
                yield Recorded(message.sequence, decode(message.data))
            if not found or not found[-1].pending:
                return
            after = found[-1].sequence

    async def _read(self, request: dict[str, Any]) -> list[Stored]:
        return await read(self.bus, self.stream, request, timeout=self.bus.timeout)
