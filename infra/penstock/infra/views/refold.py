"""Folds a log from the start into a read model of its own, while the live view goes on.

Tells nobody, and stores no dead letters of what it holds back. Never touches the live view.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

from penstock.infra.control import Step
from penstock.infra.deciding.decider import Evolve
from penstock.infra.event_log import JetStreamEventLog
from penstock.infra.follower import Followed
from penstock.infra.views.projector import Projector
from penstock.infra.views.read_model import ReadModel

S = TypeVar("S")
NEAR = 1_000  # stream sequences; so few are folded at once
SILENCE = 0.25  # seconds without an event, after which the stream's leader is asked for more


class Refold(Generic[S]):
    """One such fold, within `async with`. `events` were folded, and `held` more held back."""

    def __init__(self, log: JetStreamEventLog, evolve: Evolve[S], model: ReadModel[S]) -> None:
        self.sequence = self.events = self.held = 0
        self._pending = 0
        self.log = log
        self._model = model
        self._projector = Projector(log.bus, log, model, evolve, aside=True)  # never started
        self._follower = log.follower()
        self._read: list[Followed] = []

    async def __aenter__(self) -> Refold[S]:
        await self._follower.__aenter__()
        self._pending = await self._follower.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._follower.__aexit__(*exc)
        await self._projector.stop()

    def progress(self) -> Step:
        """How far it is, in events."""
        done = self.events + self.held
        return Step(done, done + self._pending)

    async def step(self, end: int) -> bool:
        """Fold some events, none beyond the sequence `end`. False once it stands at `end`."""
        if self.sequence >= end:
            return False
        batch = await self._next(end)
        if batch:
            await self._fold(batch)
        else:
            await asyncio.to_thread(self._model.write, (), end)
            self.sequence = end
        return True

    async def approach(self, position: Callable[[], int]) -> AsyncIterator[Step]:
        """Fold until it is near `position`, which moves, or does not come nearer any more."""
        distance, last = position() - self.sequence, float("inf")
        while NEAR < distance < last:
            end = position()
            while await self.step(end):
                yield self.progress()
            distance, last = position() - self.sequence, distance

    async def _next(self, end: int) -> list[Followed]:
        while not self._read:
            try:
                async with asyncio.timeout(SILENCE):
                    self._read = await self._follower.batch()
            except TimeoutError:
                if not await self._any_until(end):
                    return []
        batch = [message for message in self._read if message.sequence <= end]
        self._read = self._read[len(batch) :]
        return batch

    async def _any_until(self, end: int) -> bool:
        """Whether an event up to `end` is yet to come: those at the end may have been removed."""
        request = {
            "seq": self.sequence + 1,
            "next_by_subj": self.log.bus.subjects.events(self.log.service),
        }
        return 0 < await self.log.leaders(request) <= end

    async def _fold(self, batch: list[Followed]) -> None:
        folded = await self._projector.fold(batch)
        self.events += len(folded)
        self.held += len(batch) - len(folded)
        self.sequence, self._pending = batch[-1].sequence, batch[-1].pending + len(self._read)
