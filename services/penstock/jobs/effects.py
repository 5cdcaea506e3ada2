"""What follows beside the log from a state, kind by kind. Never decides.

Every effect may run again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from penstock.contracts.envelope import Envelope
from penstock.infra.deciding.aggregate import Aggregate
from penstock.jobs.domain import State

Effect = Callable[[Aggregate[Any], Envelope], Awaitable[int | None]]


def in_turn(*effects: Effect) -> Effect:
    """One effect that is all of these, one after the other."""

    async def effect(aggregate: Aggregate[Any], command: Envelope) -> None:
        for each in effects:
            await each(aggregate, command)

    return effect


class Effects:
    """`by_state` has the effect of each kind of aggregate, by the type of its state."""

    def __init__(self, by_state: Mapping[type, Effect]) -> None:
        self._by_state = by_state

    async def __call__(self, aggregate: Aggregate[State], command: Envelope) -> int | None:
        """Do what the aggregate's present state asks for; see `Decider`."""
        effect = self._by_state.get(type(aggregate.state))
        return await effect(aggregate, command) if effect else None
