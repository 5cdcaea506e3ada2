"""Appends to many aggregates at once, in as few batches as they fit into.

For those who have many in hand at a time, such as a worker. Never decides what a conflict means: an
append that was not stored, or of which nobody knows, is to be done again by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import msgspec

from penstock.contracts.errors import PenstockError
from penstock.contracts.subjects import EXPECTED
from penstock.infra.bus import Bus
from penstock.infra.commit import publish_batch
from penstock.infra.replies import ack_of
from penstock.infra.storing import REPLY

UNKNOWN = 0  # in place of a sequence: not stored, or nobody knows
# A batch costs the server some milliseconds whatever it holds; few are stored sooner one by one.
FEW = 8
AT_ONCE = 400
BATCH_BYTES = 4 * 1024 * 1024


class Append(msgspec.Struct, frozen=True):
    """One event for the end of one subject, whose last sequence is `expected`."""

    subject: str
    body: bytes
    expected: int


async def append_many(bus: Bus, appends: Sequence[Append]) -> list[int]:
    """Store each, independently of the others; their sequences in order, UNKNOWN for some.

    No two may have the same subject. One that is refused, because its aggregate has moved on, keeps
    those in the same batch from being stored together: they are then stored one by one.
    """
    stored: list[int] = []
    for part in _parts(appends):
        stored += await (_one_by_one(bus, part) if len(part) < FEW else _together(bus, part))
    return stored


def _parts(appends: Sequence[Append]) -> Iterator[Sequence[Append]]:
    first = size = 0
    for place, append in enumerate(appends):
        if place - first == AT_ONCE or (size and size + len(append.body) > BATCH_BYTES):
            yield appends[first:place]
            first, size = place, 0
        size += len(append.body)
    if first < len(appends):
        yield appends[first:]


async def _together(bus: Bus, part: Sequence[Append]) -> list[int]:
    messages = [(one.subject, one.body, {EXPECTED: str(one.expected)}) for one in part]
    try:
        last = await publish_batch(bus, messages, timeout=REPLY)
    except PenstockError:
        return await _one_by_one(bus, part)
    return list(range(last - len(part) + 1, last + 1))


async def _one_by_one(bus: Bus, part: Sequence[Append]) -> list[int]:
    """All on their way at once. What was stored before is refused: its place is UNKNOWN."""
    return list(await asyncio.gather(*(_alone(bus, one) for one in part)))


async def _alone(bus: Bus, one: Append) -> int:
    headers = {EXPECTED: str(one.expected)}
    try:
        reply = await bus.publish_ahead(one.subject, one.body, headers, timeout=REPLY)
        return ack_of((await reply)[0]).seq
    except PenstockError:
        return UNKNOWN
