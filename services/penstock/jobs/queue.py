"""A queue: `decide` and `evolve`. Pure: time and ids arrive as data.

What follows beside the log, such as workers that get nothing, is in `queue_effects`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from msgspec.structs import replace

from penstock.contracts.envelope import Envelope
from penstock.contracts.errors import InvalidMessage, TooLarge
from penstock.contracts.queues import (
    MAX_TENANTS,
    DrainQueue,
    PauseQueue,
    PurgeQueue,
    QueueDraining,
    QueuePaused,
    QueuePurged,
    QueueResumed,
    QueueState,
    QueueWeighed,
    ResumeQueue,
    SetWeight,
    queue_name,
)
from penstock.infra.deciding.decider import Context

Command = PauseQueue | ResumeQueue | DrainQueue | PurgeQueue | SetWeight
Event = QueuePaused | QueueResumed | QueueDraining | QueuePurged | QueueWeighed
LONGEST_NAME = 64


def decide(state: QueueState | None, command: Command, context: Context) -> Sequence[Event]:
    """The events that `command` causes. Raises InvalidMessage or TooLarge."""
    name = queue_name(context.command.subject)
    if not 0 < len(name) <= LONGEST_NAME:
        raise InvalidMessage(
            f"{name!r} cannot be a queue's name: it has 1 to {LONGEST_NAME} characters.",
            path="$.subject",
        )
    match command:
        case PauseQueue():
            return [] if state and state.paused else [QueuePaused(reason=command.reason)]
        case ResumeQueue():
            return [QueueResumed()] if state and (state.paused or state.draining) else []
        case DrainQueue():
            return [] if state and state.draining else [QueueDraining(reason=command.reason)]
        case PurgeQueue():
            return [QueuePurged(reason=command.reason)]
        case SetWeight():
            return _weigh(state, command)
        case _:
            assert_never(command)


def _weigh(state: QueueState | None, command: SetWeight) -> Sequence[Event]:
    weights = state.weights if state else {}
    if weights.get(command.tenant, 1) == command.weight:
        return []
    if len(weights) >= MAX_TENANTS and command.tenant not in weights:
        raise TooLarge(
            f"{MAX_TENANTS} tenants of the queue have a weight already; set that of another one "
            "back to 1 first."
        )
    return [QueueWeighed(tenant=command.tenant, weight=command.weight)]


def evolve(state: QueueState | None, event: Event, envelope: Envelope) -> QueueState:
    """The state after `event`."""
    id, now = envelope.subject, envelope.time
    state = replace(state, changed=now) if state else _new(id, envelope)
    match event:
        case QueuePaused():
            return replace(state, paused=True, reason=event.reason)
        case QueueResumed():
            return replace(state, paused=False, draining=False, reason=None)
        case QueueDraining():
            return replace(state, draining=True, reason=event.reason)
        case QueuePurged():
            return replace(state, purged=now)
        case QueueWeighed():
            return replace(state, weights=_weights(state.weights, event))
        case _:
            assert_never(event)


def _new(id: str, envelope: Envelope) -> QueueState:
    return QueueState(id=id, name=queue_name(id), changed=envelope.time)


def _weights(weights: dict[str, int], event: QueueWeighed) -> dict[str, int]:
    others = {tenant: weight for tenant, weight in weights.items() if tenant != event.tenant}
    return others if event.weight == 1 else {**others, event.tenant: event.weight}
