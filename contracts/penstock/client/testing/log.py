"""The events of one service in memory, and the states that they make. Never decides."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from penstock.client.testing.domains import Domain
from penstock.contracts.answers import HistoryEntry
from penstock.contracts.envelope import Envelope, unwrap, wrap
from penstock.contracts.errors import NotFound
from penstock.infra.event_log import Recorded
from penstock.infra.telling import entry, happened_by


class MemoryLog:
    """`states` has the present state of each aggregate, `events` what made it, both by id.

    `happened` has all in order: sequence, event, its data, and its aggregate's state then.
    """

    def __init__(self, service: str, domain: Domain) -> None:
        self.service = service
        self.domain = domain
        self.states: dict[str, Any] = {}
        self.events: dict[str, list[Recorded]] = {}
        self.happened: list[tuple[int, Envelope, Any, Any]] = []

    @property
    def newest(self) -> int:
        """The sequence of the last event of all."""
        return len(self.happened)

    def sequence(self, id: str) -> int:
        """That of the aggregate's last event, 0 if it has none."""
        return self.events[id][-1].sequence if id in self.events else 0

    def last(self, id: str) -> Envelope:
        """The aggregate's last event."""
        return self.events[id][-1].event

    def found(self, id: str) -> Any:
        """The state now. Raises NotFound."""
        if id not in self.states:
            raise NotFound(f"There is no {id!r} in {self.service}.", id=id)
        return self.states[id]

    def append(
        self,
        id: str,
        data: Any,
        *,
        event_id: str,
        now: datetime,
        correlationid: str,
        cause: Envelope | None,
        actor: str | None,
    ) -> Envelope:
        """Store one event and fold it."""
        stored = self.events.setdefault(id, [])
        event = wrap(
            data,
            id=event_id,
            subject=id,
            time=now,
            correlationid=correlationid,
            cause=cause,
            actor=actor,
            version=len(stored) + 1,
        )
        state = self.states[id] = self.domain.evolve(self.states.get(id), data, event)
        self.happened.append((self.newest + 1, event, data, state))
        stored.append(Recorded(self.newest, event))
        return event

    def follow_on(self, id: str, data: Any, now: datetime) -> Envelope:
        """Store an event that the aggregate's last one is the cause of."""
        last = self.last(id)
        return self.append(
            id,
            data,
            event_id=f"{id}:{last.version + 1}:testing",
            now=now,
            correlationid=last.correlationid,
            cause=last,
            actor=last.actor,
        )

    def at(self, id: str, at: str) -> Any:
        """The state at a sequence or time. Raises NotFound or InvalidMessage."""
        self.found(id)
        happened, state = happened_by(at), None
        for stored in self.events[id]:
            if happened(stored):
                state = self.domain.evolve(state, unwrap(stored.event), stored.event)
        if state is None:
            raise NotFound(f"There was no {id!r} at {at}.", id=id)
        return state

    def entries(self, id: str) -> list[HistoryEntry]:
        """The history of one aggregate. Raises NotFound."""
        self.found(id)
        return [entry(self.service, stored) for stored in self.events[id]]

    def flow(self, correlationid: str) -> list[HistoryEntry]:
        """All events of a flow."""
        return [
            entry(self.service, Recorded(sequence, event))
            for sequence, event, _, _ in self.happened
            if event.correlationid == correlationid
        ]
