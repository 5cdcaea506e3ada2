"""Redrives dead letters, and discards them.

A message goes back to where it came from, and only once it is stored there its letter is removed:
a crash between the two redrives it twice, which is harmless, since every handler may run twice.
What cannot be redriven stays, with one sentence that says why.
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence

import msgspec

from penstock.contracts.control import Redo, Release, Report, StillHeld
from penstock.contracts.dead import DeadLetter, Found, Kind, Letters, Settled, body_of
from penstock.contracts.envelope import decode
from penstock.contracts.errors import InvalidMessage, PenstockError
from penstock.contracts.subjects import MSG_ID, REDRIVEN, REPLY
from penstock.infra import telemetry
from penstock.infra.bus import Bus, StreamError
from penstock.infra.control import ask_all, ask_any
from penstock.infra.dead_letters.office import DeadLetterOffice

GONE = 10057  # a message that was deleted before
_decode_held = msgspec.json.Decoder(list[StillHeld]).decode
Left = dict[int, str]  # why a letter stays, by its number


class Redriving:
    """Settles letters page by page, so that it can be interrupted and begun again."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._office = DeadLetterOffice(bus)
        self._stream = bus.subjects.stream("dead")

    async def redrive_all(self, which: Letters, limit: int = 0) -> AsyncIterator[list[Settled]]:
        """Redrive the matching letters, the oldest first and `limit` at most (0: all).

        Only those that are there now: what fails again is a new letter, and is left.
        """
        async for page in self._pages(which, limit):
            yield await self.redrive(page)

    async def discard_all(
        self, which: Letters, limit: int = 0, *, overwrite: bool = False
    ) -> AsyncIterator[list[Settled]]:
        """Remove the matching letters for good, the oldest first and `limit` at most (0: all).

        `overwrite`: on the disk as well, at once and not when the server next tidies up; for what
        must not be there any more. That is a hundred times slower.
        """
        async for page in self._pages(which, limit):
            yield await self.discard(page, overwrite=overwrite)

    async def discard(self, page: Sequence[Found], *, overwrite: bool = False) -> list[Settled]:
        """Remove these letters, and with them the messages that they hold, for good."""
        await self._remove(page, overwrite=overwrite)
        for found in page:
            telemetry.DISCARDED.labels(found.letter.service, found.letter.kind).inc()
        return [Settled(number=found.number) for found in page]

    async def forget(self, service: str, aggregate: str) -> None:
        """Remove every letter about an aggregate, and what it held from the disk."""
        about = Letters(service=service, aggregate=aggregate)
        async for _ in self.discard_all(about, overwrite=True):
            continue

    async def redrive(self, page: Sequence[Found]) -> list[Settled]:
        """Redrive these letters. Raises Unavailable; begin again then."""
        ways: defaultdict[Kind, list[Found]] = defaultdict(list)
        for found in page:
            ways[_way(found.letter)].append(found)
        left = await self._release_all(ways.pop("event", []))
        for found in ways.pop("work", []):
            left |= await self._redo(found)
        for rest in ways.values():
            left |= await self._publish_all(rest)
        await self._remove([found for found in page if found.number not in left])
        for found in page:
            if found.number not in left:
                telemetry.REDRIVEN.labels(found.letter.service, found.letter.kind).inc()
        return [Settled(number=found.number, left=left.get(found.number)) for found in page]

    async def _pages(self, which: Letters, limit: int) -> AsyncIterator[list[Found]]:
        room = limit or sys.maxsize
        async for page in self._office.oldest_first(which, await self._office.last()):
            if page:
                yield page[:room]
            room -= len(page)
            if room <= 0:
                return

    async def _remove(self, page: Iterable[Found], *, overwrite: bool = False) -> None:
        await asyncio.gather(*(self._remove_one(found.number, overwrite) for found in page))

    async def _remove_one(self, number: int, overwrite: bool) -> None:
        request = {"seq": number, "no_erase": not overwrite}
        try:
            await self._bus.api(f"STREAM.MSG.DELETE.{self._stream}", request)
        except StreamError as error:
            if error.err_code != GONE:
                raise

    # -- messages that were on their way ---------------------------------------------------------

    async def _publish_all(self, page: Sequence[Found]) -> Left:
        # Begun in their order, and therefore stored in their order.
        why = await asyncio.gather(*map(self._publish, page))
        return {found.number: said for found, said in zip(page, why, strict=True) if said}

    async def _publish(self, found: Found) -> str | None:
        letter, body = found.letter, body_of(found.letter)
        if body is None or (why := _unreadable(body)):
            return why if body is not None else _NOT_KEPT
        prefix = self._bus.subjects.prefix
        if letter.subject.startswith(f"{prefix}.ev."):
            return _OLDER
        if not letter.subject.startswith(f"{prefix}."):
            return f"It came from {letter.subject}, which is not of this system; discard it."
        headers = {
            name: value
            for name, value in letter.headers.items()
            if not name.lower().startswith("nats-") and name != REPLY
        }
        headers[REDRIVEN] = str(found.number)
        headers[MSG_ID] = f"dead-letter:{found.number}:{letter.time.timestamp()}"
        try:
            await self._bus.publish_acked(letter.subject, body, headers)
        except StreamError as error:
            return str(error)
        return None

    # -- events ----------------------------------------------------------------------------------

    async def _release_all(self, page: Sequence[Found]) -> Left:
        of: defaultdict[str, list[Found]] = defaultdict(list)
        left: Left = {}
        for found in page:
            of[found.letter.service].append(found)
        for service, some in of.items():
            left |= await self._release(service, some)
        return left

    async def _release(self, service: str, page: Sequence[Found]) -> Left:
        """Have every instance fold what it holds of these aggregates."""
        ids = list(dict.fromkeys(found.letter.id for found in page))
        left: Left = {}
        try:
            async for report in ask_all(self._bus, service, "release", Release(ids=ids)):
                if report.ended:
                    left |= _still_held(report, page)
        except PenstockError as error:
            return {found.number: str(error) for found in page}
        return left

    async def _redo(self, found: Found) -> Left:
        """Have one instance do the work that the event calls for."""
        letter = found.letter
        verb, asked = f"redo-{letter.consumer}", Redo(sequence=letter.sequence)
        try:
            report = await ask_any(self._bus, letter.service, verb, asked)
        except PenstockError as error:
            return {found.number: str(error)}
        return {found.number: report.problem.detail} if report.problem else {}


_NOT_KEPT = "What it said was not kept, or not whole, so that it cannot be redriven; discard it."


_OLDER = (
    "It was written by an older version, and does not say whether a view or other work failed; "
    "if the event is still not folded it has a newer letter: discard this one."
)


def _way(letter: DeadLetter) -> Kind:
    """How a letter is redriven: as an `event`, as `work` on one, or by publishing, in its order."""
    if letter.kind == "work" and not letter.consumer:
        return "command"
    return letter.kind if letter.kind in ("event", "work") else "command"


def _unreadable(body: bytes) -> str | None:
    try:
        decode(body)
    except InvalidMessage as error:
        return f"{error} Nobody can read it, so that it would come back; discard it."
    return None


def _still_held(report: Report, page: Sequence[Found]) -> Left:
    if report.problem:
        return {found.number: f"{report.instance}: {report.problem.detail}" for found in page}
    held = {one.id: one for one in _decode_held(report.data)}
    return {
        found.number: f"{report.instance} cannot fold event {one.sequence}: {one.reason.detail}"
        for found in page
        if (one := held.get(found.letter.id)) and one.sequence <= found.letter.sequence
    }
