"""Snapshots of long aggregates: a short way to their present state. Never the truth.

One that is missing, or was made by other code, costs time and nothing else: the events are read
from the start. Written beside commands, never before one is answered.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from types import UnionType
from typing import Any, Generic, TypeVar

import msgspec

from penstock.contracts.envelope import Envelope
from penstock.contracts.errors import PenstockError
from penstock.contracts.subjects import EXPECTED
from penstock.infra.bus import Bus
from penstock.infra.deciding.aggregate import Aggregate, Mark, packed, unpacked

log = logging.getLogger(__name__)

S = TypeVar("S")
EVERY = 32  # events that are read behind a snapshot, at the least
SHARE = 250  # and one for so many that the aggregate has, since a snapshot grows with it
AT_ONCE = 32  # being written; what comes while so many are comes again with the next event


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """An aggregate as it was at `sequence`. `schema` is of the code that made it."""

    schema: str
    state: msgspec.Raw
    version: int
    sequence: int
    commands: bytes
    last: Envelope


class Gone(msgspec.Struct, frozen=True, kw_only=True):
    """Stands in the place of a snapshot whose aggregate was erased: none is put there again."""

    gone: bool = True


def schema_of(state: type[Any] | UnionType, version: int) -> str:
    """A name for how states look: another one for other fields, types, or another `version`."""
    schema = msgspec.json.encode(msgspec.json.schema(state), order="deterministic")
    return hashlib.blake2b(schema + str(version).encode(), digest_size=8).hexdigest()


class Snapshots(Generic[S]):
    """The snapshots of one service. `version` is to change when states come out otherwise."""

    def __init__(
        self, bus: Bus, service: str, state: type[S] | UnionType, *, version: int = 1
    ) -> None:
        self._bus = bus
        self._service = service
        self._stream = bus.subjects.stream("snap")
        self._schema = schema_of(state, version)
        self._state = msgspec.json.Decoder(state)
        self._decode = msgspec.json.Decoder(Snapshot).decode
        self._encode = msgspec.json.Encoder().encode
        self._writing: dict[str, asyncio.Task[None]] = {}

    async def load(self, id: str) -> Aggregate[S] | None:
        """The aggregate as its snapshot tells it, or None if there is none of use."""
        request = {"last_by_subj": self._subject(id)}
        found = await self._bus.direct_get(self._stream, request)
        if not found:
            return None
        try:
            snapshot = self._decode(found[0].data)
            if snapshot.schema == self._schema:
                return self._aggregate(id, snapshot, found[0].sequence)
        except msgspec.DecodeError as error:
            log.debug("the snapshot of %s %s is of no use: %s", self._service, id, error)
        return Aggregate(id, snapshot=Mark(sequence=found[0].sequence))

    def offer(self, aggregate: Aggregate[S]) -> None:
        """Write a snapshot soon if the aggregate has grown enough since the last one."""
        behind = aggregate.version - aggregate.snapshot.version
        due = behind >= max(EVERY, aggregate.version // SHARE) and aggregate.state is not None
        if due and aggregate.id not in self._writing and len(self._writing) < AT_ONCE:
            body = self._encode(self._snapshot(aggregate))
            task = asyncio.create_task(self._write(aggregate, body), name="snapshot")
            self._writing[aggregate.id] = task
            task.add_done_callback(lambda _: self._writing.pop(aggregate.id))

    async def erase(self, id: str) -> None:
        """Remove the snapshot, and let none that is on its way take its place."""
        await self._bus.publish_acked(self._subject(id), self._encode(Gone()))

    async def forget(self, id: str) -> None:
        """Remove the snapshot."""
        await self._bus.api(f"STREAM.PURGE.{self._stream}", {"filter": self._subject(id)})

    async def close(self) -> None:
        """Wait for those being written."""
        await asyncio.gather(*self._writing.values(), return_exceptions=True)

    async def _write(self, aggregate: Aggregate[S], body: bytes) -> None:
        mark = aggregate.snapshot
        mark.version = aggregate.version  # whatever comes of it: not with each event from now on
        headers = {EXPECTED: str(mark.sequence)}
        try:
            ack = await self._bus.publish_acked(self._subject(aggregate.id), body, headers)
        except PenstockError as error:  # another instance has written one, or the server is away
            log.debug("no snapshot of %s %s: %s", self._service, aggregate.id, error)
        else:
            mark.sequence = ack.seq

    def _snapshot(self, aggregate: Aggregate[S]) -> Snapshot:
        assert aggregate.last is not None
        return Snapshot(
            schema=self._schema,
            state=msgspec.Raw(self._encode(aggregate.state)),
            version=aggregate.version,
            sequence=aggregate.sequence,
            commands=packed(aggregate.commands),
            last=aggregate.last,
        )

    def _aggregate(self, id: str, snapshot: Snapshot, at: int) -> Aggregate[S]:
        return Aggregate(
            id,
            self._state.decode(snapshot.state),
            snapshot.version,
            snapshot.sequence,
            dict.fromkeys(unpacked(snapshot.commands)),
            snapshot.last,
            snapshot=Mark(snapshot.version, at),
        )

    def _subject(self, id: str) -> str:
        return self._bus.subjects.snapshot(self._service, id)
