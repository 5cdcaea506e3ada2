"""A gate: what it folds to, which ones a job has to pass, and who has a place. Pure.

A job goes through all of its gates at once, and holds no place at one while it waits for another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Literal, NoReturn, assert_never

import msgspec
from msgspec.structs import replace

from penstock.contracts.envelope import Envelope
from penstock.contracts.gates import (
    Began,
    GateState,
    PlaceFreed,
    PlacesChanged,
    PlaceTaken,
    gate_id,
)
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import Rules

Event = PlacesChanged | PlaceTaken | PlaceFreed
Weight = Callable[[str, str], int]  # of a tenant in a queue: its turns for one of another
Window = Callable[[str, str], int]  # of a tenant in a queue: its jobs that may wait for workers

WINDOW = 16  # jobs of a tenant, for each of its turns, that workers are offered at a time
GIVEN = 1_000  # jobs of a rate that workers are offered at a time
MOMENTS = 100  # at which jobs of a rate began, that are told apart


class Gate(msgspec.Struct, frozen=True):
    """What one job has to pass: `capacity` places, each kept until the job's start or end.

    With `per` no more than `at_most` begin within so many seconds: those that have a place and
    did not begin yet count as if they did now.
    """

    id: str
    capacity: int
    until: Literal["start", "end"]
    at_most: int = 0
    per: float = 0.0


def is_gated(rules: Rules) -> bool:
    """Whether a job with these rules may have to wait for others."""
    return bool(rules.limit or rules.rate or rules.tenant)


def gates(job: JobState, window: Window = lambda queue, tenant: WINDOW) -> list[Gate]:
    """The gates of a job."""
    found, rules = [], job.rules
    if limit := rules.limit:
        found.append(Gate(gate_id("limit", limit.key), limit.at_most, "end"))
    if rate := rules.rate:
        most = rate.at_most
        found.append(Gate(gate_id("rate", rate.key), min(most, GIVEN), "start", most, rate.per))
    if rules.tenant:
        id = gate_id("tenant", f"{job.queue}/{rules.tenant}")
        found.append(Gate(id, window(job.queue, rules.tenant), "start"))
    return found


def is_ready(job: JobState, now: datetime) -> bool:
    """Whether it may be offered to workers once it is through its gates."""
    return job.state in ("pending", "retrying") and (job.run_at is None or job.run_at <= now)


def keeps(job: JobState | None, gate: Gate, now: datetime) -> bool:
    """Whether the job still needs its place at the gate."""
    if job is None:
        return False
    return is_ready(job, now) or (job.state == "processing" and gate.until == "end")


def lately(state: GateState | None, gate: Gate, now: datetime) -> int:
    """How many began within the last `per` seconds of a gate of a rate."""
    if state is None or not gate.per:
        return 0
    since = now - timedelta(seconds=gate.per)
    return sum(one.count for one in begun(state) if one.at > since)


def begun(state: GateState) -> tuple[Began, ...]:
    """When jobs began lately, the oldest first."""
    return (*(Began(at, 1) for at in state.moments), *state.began)


def opens(state: GateState | None, gate: Gate, now: datetime) -> datetime | None:
    """When the gate has a place: `now`, a later moment, or None: once one is freed."""
    held = len(state.holders) if state else 0
    if held >= gate.capacity:
        return None
    if state is None or not gate.per:
        return now
    left = gate.at_most - held  # that may have begun within `per` seconds and leave a place
    if left <= 0:
        return None
    for one in reversed(begun(state)):
        left -= one.count
        if left <= 0:
            return max(now, one.at + timedelta(seconds=gate.per))
    return now


def decide(*_: object) -> NoReturn:
    """No command is for a gate."""
    raise TypeError("A gate has no commands.")


def evolve(state: GateState | None, event: Event, envelope: Envelope) -> GateState:
    """The state after `event`."""
    state = state or GateState(id=envelope.subject)
    match event:
        case PlacesChanged():
            began = _remembered(begun(state), event) if event.began else state.began
            moments = () if event.began else state.moments
            holders = _changed(state, event.freed, event.taken, envelope.time)
            return replace(state, holders=holders, began=began, moments=moments)
        case PlaceTaken(job=job, kept=kept):
            moments = (*state.moments, envelope.time)[-kept:] if kept else ()
            holders = _changed(state, (), (job,), envelope.time)
            return replace(state, holders=holders, moments=moments)
        case PlaceFreed(job=job):
            return replace(state, holders=_changed(state, (job,), (), envelope.time))
        case _:
            assert_never(event)


def _changed(
    state: GateState, freed: Iterable[str], taken: Iterable[str], now: datetime
) -> dict[str, datetime]:
    holders = dict(state.holders)
    for job in freed:
        holders.pop(job, None)
    for job in taken:
        holders[job] = now
    return holders


def _remembered(began: Sequence[Began], event: PlacesChanged) -> tuple[Began, ...]:
    """With those of `event`, and without what is of no use any more.

    What is nearer together than a hundredth of the time counts as one, at the later moment: so
    nobody begins too soon.
    """
    assert event.at is not None
    kept = [*began, Began(event.at, event.began)]
    kept.sort(key=lambda one: one.at)
    since, apart = kept[-1].at - timedelta(seconds=event.per), event.per / MOMENTS
    joined: dict[float, Began] = {}
    for one in kept:
        if one.at > since:
            bucket = one.at.timestamp() // apart
            other = joined.get(bucket)
            joined[bucket] = Began(one.at, one.count + (other.count if other else 0))
    return tuple(joined.values())
