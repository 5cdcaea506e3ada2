"""A gate: what it folds to, which ones a job has to pass, and who has a place. Pure.

A job passes its gates in one order, limit, rate, tenant, and keeps what it has while it waits for
the next: so no two jobs ever wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Literal, NoReturn, assert_never

import msgspec
from msgspec.structs import replace

from penstock.contracts.envelope import Envelope
from penstock.contracts.gates import GateState, PlaceFreed, PlaceTaken, gate_id
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import Rate, Rules

Event = PlaceTaken | PlaceFreed
Weight = Callable[[str, str], int]  # of a tenant in a queue

WINDOW = 16  # jobs of a tenant, for each of its turns, that workers may be offered at a time
MOMENTS = 100  # that a rate remembers: one with more is held in shorter stretches


class Gate(msgspec.Struct, frozen=True):
    """What one job has to pass: `capacity` places, each kept until the job's start or end.

    With `per` no more than `capacity` go through in any so many seconds.
    """

    id: str
    capacity: int
    until: Literal["start", "end"]
    per: float = 0.0


def is_gated(rules: Rules) -> bool:
    """Whether a job with these rules may have to wait for others."""
    return bool(rules.limit or rules.rate or rules.tenant)


def gates(job: JobState, weight: Weight = lambda queue, tenant: 1) -> list[Gate]:
    """The gates of a job, in the order in which it passes them."""
    found, rules = [], job.rules
    if limit := rules.limit:
        found.append(Gate(gate_id("limit", limit.key), limit.at_most, "end"))
    if rules.rate:
        found.append(_of_rate(rules.rate))
    if rules.tenant:
        turns = weight(job.queue, rules.tenant)
        id = gate_id("tenant", f"{job.queue}/{rules.tenant}")
        found.append(Gate(id, WINDOW * turns, "start"))
    return found


def _of_rate(rate: Rate) -> Gate:
    """A rate that remembers no more than MOMENTS: 1,000 in 60 s are at most 100 in any 6 s."""
    stretches = -(-rate.at_most // MOMENTS)
    return Gate(
        gate_id("rate", rate.key),
        max(rate.at_most // stretches, 1),
        "start",
        rate.per / stretches,
    )


def is_ready(job: JobState, now: datetime) -> bool:
    """Whether it may be offered to workers once it is through its gates."""
    return job.state in ("pending", "retrying") and (job.run_at is None or job.run_at <= now)


def keeps(job: JobState | None, gate: Gate, now: datetime) -> bool:
    """Whether the job still needs its place at the gate."""
    if job is None:
        return False
    return is_ready(job, now) or (job.state == "processing" and gate.until == "end")


def opens(state: GateState | None, gate: Gate, now: datetime) -> datetime | None:
    """When the gate has a place: `now`, a later moment, or None: once one is freed."""
    if state is None:
        return now
    if len(state.holders) >= gate.capacity:
        return None
    if not gate.per or len(state.moments) < gate.capacity:
        return now
    return max(now, state.moments[-gate.capacity] + timedelta(seconds=gate.per))


def decide(*_: object) -> NoReturn:
    """No command is for a gate."""
    raise TypeError("A gate has no commands.")


def evolve(state: GateState | None, event: Event, envelope: Envelope) -> GateState:
    """The state after `event`."""
    state = state or GateState(id=envelope.subject)
    others = {job: since for job, since in state.holders.items() if job != event.job}
    match event:
        case PlaceTaken(kept=kept):
            moments: Sequence[datetime] = (*state.moments, envelope.time)[-kept:] if kept else ()
            holders = {**others, event.job: envelope.time}
            return replace(state, holders=holders, moments=tuple(moments))
        case PlaceFreed():
            return replace(state, holders=others)
        case _:
            assert_never(event)
