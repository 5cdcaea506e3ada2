"""The archive: segments of finished aggregates in the object store. Never decides what goes there.

A segment is gzipped NDJSON: a line for each event, with its stream sequence and the event as it was
stored, so that it can be read by anything that reads either. All lines of an aggregate are in one
segment, in their order.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterable, Sequence

import msgspec

from penstock.contracts.envelope import Envelope
from penstock.contracts.errors import Conflict, NotFound
from penstock.infra.event_log import Recorded
from penstock.infra.objects import Objects, StoredObject

TRIES = 20


class Line(msgspec.Struct, frozen=True):
    """One event of a segment."""

    sequence: int
    event: Envelope


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode
Contents = dict[str, list[Recorded]]


class Archive:
    """The segments of one service."""

    def __init__(self, objects: Objects, service: str) -> None:
        self._objects = objects
        self._prefix = f"archive/{service}/"

    def name(self, id: str) -> str:
        """The name of the segment with this id."""
        return f"{self._prefix}{id}.ndjson.gz"

    async def write(self, segment: str, records: Iterable[Recorded]) -> None:
        """Store a segment, in place of what was there by that name."""
        await self._objects.put(segment, await asyncio.to_thread(_packed, list(records)))

    async def read(self, segment: str) -> Contents:
        """Every aggregate in a segment, by id. Raises NotFound, Damaged or Unavailable."""
        return await self._contents(await self._objects.info(segment))

    async def events(self, segment: str, id: str) -> Sequence[Recorded]:
        """The events of one aggregate; none if it is not in the segment any more."""
        try:
            return (await self.read(segment)).get(id, ())
        except NotFound:
            return ()

    async def search(self, id: str) -> Sequence[Recorded]:
        """The events of one aggregate wherever they are: every segment is read. Slow."""
        found: list[Recorded] = []
        async for segment in self._objects.names(self._prefix):
            found += await self.events(segment, id)
        return sorted(found, key=lambda record: record.sequence)

    async def leave_out(self, segment: str, ids: Iterable[str]) -> None:
        """Write the segment anew without these aggregates; remove it when none is left.

        Others may do the same at the same time. Raises Conflict if they keep being quicker.
        """
        unwanted = set(ids)
        for _ in range(TRIES):
            try:
                stored, named_at = await self._objects.find(segment)
            except NotFound:
                return None
            contents = await self._contents(stored)
            if unwanted.isdisjoint(contents):
                return None
            left = [r for id, records in contents.items() if id not in unwanted for r in records]
            try:
                # Empty rather than removed: whoever is about to replace it must find it changed.
                packed = await asyncio.to_thread(_packed, left)
                return await self._objects.replace(stored, packed, named_at=named_at)
            except Conflict:
                continue
        raise Conflict(f"The segment {segment!r} keeps being changed by others; try again.")

    async def _contents(self, stored: StoredObject) -> Contents:
        body = b"".join([piece async for piece in self._objects.read(stored)])
        return await asyncio.to_thread(_unpacked, body)


def _packed(records: Sequence[Recorded]) -> bytes:
    lines = b"".join(_encode(Line(r.sequence, r.event)) + b"\n" for r in records)
    return gzip.compress(lines, mtime=0)


def _unpacked(body: bytes) -> Contents:
    contents: Contents = {}
    for line in gzip.decompress(body).splitlines():
        record = _decode(line)
        recorded = Recorded(record.sequence, record.event)
        contents.setdefault(record.event.subject, []).append(recorded)
    return contents
