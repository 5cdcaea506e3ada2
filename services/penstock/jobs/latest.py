"""Many aggregates as they stand now, for one read of their last events. Never loads one by one.

A job's first event tells all of it while it is the only one; of others the view knows the state, as
soon as it has folded the last event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any

import apsw

from penstock.contracts.envelope import decode, unwrap
from penstock.contracts.errors import InvalidMessage
from penstock.contracts.jobs import SERVICE, JobQueued
from penstock.infra.bus import Bus, Stored
from penstock.infra.deciding.aggregate import Aggregate
from penstock.infra.event_log import Recorded
from penstock.infra.last_messages import LastMessages
from penstock.infra.views import rows
from penstock.infra.views.live_view import LiveView
from penstock.jobs.domain import evolve

TOGETHER = 50  # jobs; an answer that gets too large is asked for again by such parts

_States = dict[str, tuple[int, bytes]]


class Latest:
    """`model` gives the service's view."""

    def __init__(self, bus: Bus, model: Callable[[], LiveView[Any]]) -> None:
        self._subjects = bus.subjects
        self._model = model
        self._last = LastMessages(bus, bus.subjects.event_stream(SERVICE))

    async def of(self, ids: Collection[str]) -> dict[str, Aggregate[Any]]:
        """Those of which it can be told like this; which commands shaped them is not told.

        Raises as `storing.read` does.
        """
        asked = list(ids)
        parts = [asked[at : at + TOGETHER] for at in range(0, len(asked), TOGETHER)]
        found = await asyncio.gather(*(self._last_of(part) for part in parts))
        last = {id: one for part in found for id, one in part.items()}
        new = {id for id, one in last.items() if _is_new(one)}
        told = {id: _new(id, last[id]) for id in new}
        others = last.keys() - new
        _, states = await self._model().read(_states, others) if others else (0, {})
        for id, (sequence, state) in states.items():
            if sequence == last[id].sequence:
                told[id] = _aggregate(id, self._model().decode(state), last[id])
        return told

    async def _last_of(self, ids: Sequence[str]) -> dict[str, Recorded]:
        subjects = {id: self._subjects.event(SERVICE, id) for id in ids}
        stored = await self._last.of(*subjects.values())
        messages = {id: stored[subject] for id, subject in subjects.items() if subject in stored}
        return {id: one for id, message in messages.items() if (one := _recorded(message))}


def _recorded(stored: Stored) -> Recorded | None:
    try:
        return Recorded(stored.sequence, decode(stored.data))
    except InvalidMessage:  # whoever loads it will say so
        return None


def _is_new(last: Recorded) -> bool:
    return last.event.version == 1 and isinstance(unwrap(last.event), JobQueued)


def _new(id: str, first: Recorded) -> Aggregate[Any]:
    return _aggregate(id, evolve(None, unwrap(first.event), first.event), first)


def _aggregate(id: str, state: Any, last: Recorded) -> Aggregate[Any]:
    return Aggregate(id, state, last.event.version, last.sequence, last=last.event)


def _states(db: apsw.Connection, ids: Collection[str]) -> _States:
    found = rows.select(db, "id, sequence, state FROM aggregate WHERE id", ids)
    return {id: (sequence, state) for id, sequence, state in found}
