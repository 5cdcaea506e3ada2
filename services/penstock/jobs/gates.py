"""The gates as they are known here, and their events: each stored on the state that it was decided
upon.

So instances that race cannot give out a place twice. Never decides who has one.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from penstock.contracts.envelope import Envelope, encode, unwrap, wrap
from penstock.contracts.errors import Conflict
from penstock.contracts.gates import GateState, PlacesChanged, PlaceTaken
from penstock.contracts.jobs import SERVICE
from penstock.contracts.subjects import EXPECTED
from penstock.infra.bus import Bus, StreamError
from penstock.infra.commit import publish_batch
from penstock.infra.deciding.aggregate import Aggregate, Folder
from penstock.infra.deciding.decider import Load
from penstock.infra.event_log import WRONG_LAST_SEQUENCE, EventLog, Recorded
from penstock.infra.storing import REPLY
from penstock.jobs.gate import evolve

REMEMBERED = 5_000  # gates
LOADED_ANEW = 500  # events after which one is loaded, which takes a snapshot of it

Happening = tuple[PlacesChanged, str]  # and the flow that it belongs to


class Gates:
    """What is in memory may be behind the log: what is stored upon it is then refused.

    `elsewhere` is called with jobs that others may have given a place, as it becomes known here.
    """

    def __init__(self, bus: Bus, event_log: EventLog, load: Load[Any]) -> None:
        self._bus = bus
        self._log = event_log
        self._load = load
        self._folder: Folder[Any] = Folder(evolve)  # type: ignore[arg-type]
        self._known: OrderedDict[str, Aggregate[Any]] = OrderedDict()
        self.elsewhere: Callable[..., None] = _nobody

    async def know(self, ids: Collection[str]) -> set[str]:
        """Have the states of these gates in memory; those that were not. Raises Unavailable."""
        missing = {id for id in ids if self._is_missing(id)}
        await asyncio.gather(*map(self._learn, missing))
        return missing

    async def look(self, ids: Collection[str]) -> None:
        """Learn what others stored of these gates meanwhile. Raises Unavailable."""
        await asyncio.gather(*map(self._look, ids))

    def state(self, id: str) -> GateState | None:
        """As it is known here; None for one that nobody ever went through."""
        known = self._known.get(id)
        return known.state if known and isinstance(known.state, GateState) else None

    async def store(self, changes: Mapping[str, Happening], now: datetime) -> bool:
        """Store what happens at gates, at all of them or none.

        False if one is not as it is known here: look at them again then. Raises Unavailable.
        """
        known = {id: self._known.get(id) or Aggregate(id) for id in changes}
        events = [_event(known[id], *what, now) for id, what in changes.items()]
        first = await (
            self._alone(known, events[0]) if len(events) == 1 else self._together(known, events)
        )
        for place, event in enumerate(events):
            if first:
                record = Recorded(first + place, event)
                self._remember(self._folder.fold(known[event.subject], [record]))
        return bool(first)

    async def _alone(self, known: Mapping[str, Aggregate[Any]], event: Envelope) -> int:
        """Its sequence, 0 if it is not stored."""
        try:
            appended = await self._log.append([event], expected=known[event.subject].sequence)
        except Conflict:
            return 0
        return 0 if appended.again else appended.sequence

    async def _together(
        self, known: Mapping[str, Aggregate[Any]], events: Sequence[Envelope]
    ) -> int:
        """The first one's sequence, 0 if none is stored."""
        messages = [
            (
                self._bus.subjects.event(SERVICE, event.subject),
                encode(event),
                {EXPECTED: str(known[event.subject].sequence)},
            )
            for event in events
        ]
        try:
            last = await publish_batch(self._bus, messages, timeout=REPLY)
        except StreamError as error:
            if error.err_code not in WRONG_LAST_SEQUENCE:
                raise
            return 0
        return last - len(events) + 1

    def _is_missing(self, id: str) -> bool:
        known = self._known.get(id)
        if known is None:
            return True
        self._known.move_to_end(id)
        return known.version % LOADED_ANEW == LOADED_ANEW - 1

    async def _learn(self, id: str) -> None:
        gate = await self._load(id)
        self._remember(gate)
        if isinstance(gate.state, GateState):
            self.elsewhere(*gate.state.holders)

    async def _look(self, id: str) -> None:
        known = self._known.get(id)
        if known is None:
            await self._learn(id)
            return
        loaded = await self._log.load(id, after=known.sequence)
        if loaded.events:
            self._remember(self._folder.fold(known, loaded.events))
            self.elsewhere(*(job for record in loaded.events for job in _taken(record.event)))

    def _remember(self, known: Aggregate[Any]) -> None:
        self._known[known.id] = known
        self._known.move_to_end(known.id)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)


def _nobody(*_: str) -> None:
    """Nobody wants to know."""


def _taken(event: Envelope) -> tuple[str, ...]:
    match unwrap(event):
        case PlacesChanged(taken=taken):
            return taken
        case PlaceTaken(job=job):
            return (job,)
        case _:
            return ()


def _event(known: Aggregate[Any], event: PlacesChanged, flow: str, now: datetime) -> Envelope:
    """Without a cause: what it is about happened to many, and a gate would remember them all."""
    return wrap(
        event,
        id=f"{known.id}:{known.version + 1}",
        subject=known.id,
        time=now,
        correlationid=flow,
        version=known.version + 1,
    )
