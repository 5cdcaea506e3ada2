"""Moves finished aggregates to the archive: a copy first, then a tombstone, then the events go.

The command's id names its segment, so that after a crash the next delivery finds what was begun and
goes on with it. An aggregate that changed meanwhile stays, and its copy is left out again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Generic, TypeVar

import msgspec

from penstock.contracts.answers import Outcome
from penstock.contracts.envelope import Envelope, unwrap, wrap
from penstock.contracts.errors import Conflict, NotFound
from penstock.contracts.lifecycle import ARCHIVED, Archive, Archived, Archiving
from penstock.infra.deciding.aggregate import Aggregate, Folder, packed
from penstock.infra.endings.segments import Archive as Segments
from penstock.infra.endings.segments import Contents
from penstock.infra.event_log import JetStreamEventLog, Recorded

S = TypeVar("S")
MOST = 500  # aggregates in a segment
MOST_EVENTS = 20_000
COMMANDS = 1_000  # command keys that a tombstone keeps, the newest

Finished = Callable[[S], str | None]
Candidates = Callable[[dict[str, datetime]], AsyncIterator[str]]
Forget = Callable[[str], Awaitable[None]]
Gone = Callable[[Envelope, Mapping[str, Sequence[Recorded]]], Awaitable[None]]

_encode = msgspec.json.Encoder().encode


class Archiver(Generic[S]):
    """Carries out `Archive` for one service.

    `finished` names the final state that an aggregate is in, or gives None. `candidates` gives the
    ids that may be due, as the view knows them; the log decides. `forget` removes a snapshot. Each
    of `told` hears of the command and of what it moved, and may hear it again after a crash.
    `remembered` is how long the log keeps the tombstones, in seconds, 0 for ever.
    """

    def __init__(
        self,
        log: JetStreamEventLog,
        segments: Segments,
        folder: Folder[S],
        *,
        finished: Finished[S],
        candidates: Candidates,
        forget: Forget,
        told: Sequence[Gone],
        remembered: float,
    ) -> None:
        self._log = log
        self._segments = segments
        self._folder = folder
        self._finished = finished
        self._candidates = candidates
        self._forget = forget
        self._told = told
        self._remembered = remembered

    async def __call__(self, command: Envelope, archive: Archive) -> Outcome:
        """Archive what is due, as far as it fits one segment; see `Archiving`."""
        segment = self._segments.name(command.id)
        contents, more = await self._begun(segment, archive)
        if not contents:
            return _outcome(command, Archiving(more=more))
        changed = [
            id
            for id, records in contents.items()
            if not await self._move(segment, records, command)
        ]
        if changed:
            await self._segments.leave_out(segment, changed)
        gone = {id: records for id, records in contents.items() if id not in changed}
        for tell in self._told:
            await tell(command, gone)
        done = Archiving(segment=segment, aggregates=len(gone), more=more)
        # Who asked for it reads it: no tombstone stands behind this.
        return _outcome(command, done, await self._log.last_sequence())

    async def _begun(self, segment: str, archive: Archive) -> tuple[Contents, bool]:
        """What the segment holds, made now unless an earlier delivery has; whether more is due."""
        try:
            return await self._segments.read(segment), True
        except NotFound:
            contents, more = await self._due(archive)
        if contents:
            await self._segments.write(segment, (r for found in contents.values() for r in found))
        return contents, more

    async def _due(self, archive: Archive) -> tuple[Contents, bool]:
        contents: Contents = {}
        events = 0
        async for id in self._candidates(archive.before):
            records = (await self._log.load(id)).events
            if not self._is_due(id, records, archive):
                continue
            if contents and (len(contents) >= MOST or events + len(records) > MOST_EVENTS):
                return contents, True
            contents[id] = list(records)
            events += len(records)
        return contents, False

    def _is_due(self, id: str, records: Sequence[Recorded], archive: Archive) -> bool:
        then = self._folder.fold(Aggregate[S](id), records)
        if then.state is None or then.last is None:
            return False
        before = archive.before.get(self._finished(then.state) or "")
        return before is not None and then.last.time < before

    async def _move(self, segment: str, records: Sequence[Recorded], command: Envelope) -> bool:
        """Put the tombstone after an aggregate's events and remove those; False if it changed."""
        id, last = records[0].event.subject, records[-1]
        tombstone = self._tombstone(segment, records, command)
        try:
            appended = await self._log.append(
                [tombstone], expected=last.sequence, lifetime=self._remembered
            )
        except Conflict:
            # Gone from the log, it was moved before, and more has happened since.
            return await self._log.get(last.sequence) is None
        await self._forget(id)
        await self._log.purge(id, before=appended.sequence)
        return True

    def _tombstone(self, segment: str, records: Sequence[Recorded], command: Envelope) -> Envelope:
        last = records[-1].event
        id = last.subject
        return wrap(
            ARCHIVED[self._log.service](
                segment=segment,
                ended=last.time,
                sequences=tuple(record.sequence for record in records),
                commands=packed(self._commands(id, records)),
            ),
            # The same in every delivery: the append knows it again.
            id=f"{command.id}:{id}",
            subject=id,
            time=datetime.now(UTC),
            correlationid=command.correlationid,
            cause=command,
            actor=command.actor,
            version=last.version + 1,
            traceparent=command.traceparent,
        )

    def _commands(self, id: str, records: Sequence[Recorded]) -> Iterable[int]:
        return list(self._folder.fold(Aggregate[S](id), records).commands)[-COMMANDS:]


async def whole(records: Sequence[Recorded], segments: Segments) -> list[Recorded]:
    """`records` of one aggregate, and before each tombstone what it has in the archive.

    An aggregate that was archived more than once has the earlier tombstones there too.
    """
    found: list[Recorded] = []
    for record in records:
        data = unwrap(record.event)
        if isinstance(data, Archived):
            before = await segments.events(data.segment, record.event.subject)
            found += await whole(before, segments)
        found.append(record)
    return found


def _outcome(command: Envelope, done: Archiving, sequence: int = 0) -> Outcome:
    return Outcome(id=command.id, sequence=sequence, data=msgspec.Raw(_encode(done)))
