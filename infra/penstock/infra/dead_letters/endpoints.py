"""Dead letters over HTTP: list, show, redrive, discard. Every process answers for the system."""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.contracts.answers import Answer
from penstock.contracts.dead import (
    Found,
    LetterNumber,
    Listed,
    ListLetters,
    Settled,
    listed,
)
from penstock.contracts.errors import Refused
from penstock.infra.bus import Bus
from penstock.infra.dead_letters.office import DeadLetterOffice
from penstock.infra.dead_letters.redriving import Redriving
from penstock.infra.queries import Endpoint

_encode = msgspec.json.Encoder().encode


def dead_letter_endpoints(bus: Bus) -> list[Endpoint]:
    """The endpoints under `/dead`."""
    desk = _Desk(bus)
    one = "/dead/{number}"
    return [
        Endpoint(name="list", path="/dead", params=ListLetters, returns=list[Listed],
                 ask=desk.list, summary="Dead letters, newest first"),
        Endpoint(name="show", path=one, params=LetterNumber, returns=Found, ask=desk.show,
                 summary="One dead letter, whole"),
        Endpoint(name="redrive", path=f"{one}/redrive", params=LetterNumber, returns=Settled,
                 ask=desk.redrive, method="POST",
                 summary="Send a dead letter's message where it came from; 409 if it stays"),
        Endpoint(name="discard", path=one, params=LetterNumber, returns=Settled,
                 ask=desk.discard, method="DELETE", summary="Remove a dead letter for good"),
    ]  # fmt: skip


class _Desk:
    def __init__(self, bus: Bus) -> None:
        self._office = DeadLetterOffice(bus)
        self._redriving = Redriving(bus)

    async def list(self, asked: ListLetters) -> Answer:
        letters: list[Listed] = []
        async for found in self._office.newest_first(asked, asked.before):
            letters.append(listed(found))
            if len(letters) == asked.limit:
                break
        return _answer(letters)

    async def show(self, asked: LetterNumber) -> Answer:
        return _answer(await self._office.show(asked.number))

    async def redrive(self, asked: LetterNumber) -> Answer:
        [settled] = await self._redriving.redrive([await self._office.show(asked.number)])
        if settled.left:
            raise Refused(settled.left, number=asked.number)
        return _answer(settled)

    async def discard(self, asked: LetterNumber) -> Answer:
        [settled] = await self._redriving.discard([await self._office.show(asked.number)])
        return _answer(settled)


def _answer(data: Any) -> Answer:
    return Answer(data=msgspec.Raw(_encode(data)))
