"""Finds dead letters: one, the newest, or all of a kind in the order in which they came.

Reads a page at a time, however many there are. Never removes one: that is for `redriving`.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import msgspec

from penstock.contracts.dead import DeadLetter, Found, Letters
from penstock.contracts.errors import InvalidMessage, NotFound
from penstock.infra.bus import Bus, Stored

PAGE = 500  # letters in memory at a time, when all are gone through
WINDOW = 64  # letters read at a time, when only the newest are wanted
PAGE_BYTES = 16 * 1024 * 1024  # what is read at a time, if it is more than one letter

_decode = msgspec.json.Decoder(DeadLetter).decode


class DeadLetterOffice:
    """The dead letters of one system, each known by its number."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._stream = bus.subjects.stream("dead")

    async def show(self, number: int) -> Found:
        """One letter, whole. Raises NotFound."""
        found = await self._bus.direct_get(self._stream, {"seq": number})
        if not found:
            raise NotFound(f"There is no dead letter {number}; see `penstock dead list`.")
        return _found(found[0])

    async def last(self) -> int:
        """The number of the newest letter, gone ones included."""
        info = await self._bus.api(f"STREAM.INFO.{self._stream}")
        return int(info["state"]["last_seq"])

    async def oldest_first(self, which: Letters, until: int) -> AsyncIterator[list[Found]]:
        """Pages of all matching letters up to the number `until`; some pages may be empty."""
        after = 0
        while after < until:
            found = await self._read(which, after + 1, PAGE)
            yield _matching(found, which, until)
            if not found or not found[-1].pending:
                return
            after = found[-1].sequence

    async def newest_first(self, which: Letters, before: int = 0) -> AsyncIterator[Found]:
        """Matching letters, backwards from the one before number `before` (0: from the last)."""
        # The server reads forwards only: so in windows, as wide as the letters are sparse.
        until, width = (before - 1 if before else await self.last()), WINDOW
        while until > 0:
            start = max(1, until - width + 1)
            found = await self._window(which, start, until)
            if len(found) > WINDOW < width:
                width = max(WINDOW, width // 4)
                continue
            for one in reversed(_matching(found, which, until)):
                yield one
            until = start - 1
            width = width * 2 if len(found) < WINDOW // 2 else width

    async def _window(self, which: Letters, start: int, until: int) -> list[Stored]:
        """The letters from `start` to `until`, or more than WINDOW of them if they are many."""
        found: list[Stored] = []
        while start <= until and len(found) <= WINDOW:
            page = await self._read(which, start, WINDOW)
            found += [message for message in page if message.sequence <= until]
            if not page or not page[-1].pending:
                break
            start = page[-1].sequence + 1
        return found

    async def _read(self, which: Letters, start: int, batch: int) -> list[Stored]:
        subject = self._bus.subjects.dead(which.service, which.kind)
        request = {
            "seq": start,
            "next_by_subj": subject,
            "batch": batch,
            "max_bytes": PAGE_BYTES,
        }
        return await self._bus.direct_get(self._stream, request)


def _matching(found: list[Stored], which: Letters, until: int) -> list[Found]:
    letters = [_found(message) for message in found if message.sequence <= until]
    return [one for one in letters if which.match(one.letter)]


def _found(message: Stored) -> Found:
    try:
        letter = _decode(message.data)
    except msgspec.DecodeError as error:
        letter = _not_a_letter(message, str(error))
    return Found(number=message.sequence, letter=letter)


def _not_a_letter(message: Stored, why: str) -> DeadLetter:
    reason = InvalidMessage(f"This is no dead letter of Penstock's: {why}.").problem()
    return DeadLetter(
        service=message.subject.split(".")[2],
        subject=message.subject,
        reason=reason,
        time=datetime.fromtimestamp(0, UTC),
        body_base64=base64.b64encode(message.data).decode(),
    )
