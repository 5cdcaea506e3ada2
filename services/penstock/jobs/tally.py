"""A tally of jobs that leave the log: what it folds to, and what is in one. Pure.

Whatever a job's events count for in the view, they count for here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain, islice, zip_longest
from typing import NoReturn, TypeVar

import msgspec

from penstock.contracts.envelope import Envelope, unwrap
from penstock.contracts.job_state import JobState
from penstock.contracts.job_tally import Counted, JobsTallied, Stepped, TallyState
from penstock.infra.deciding.aggregate import Tombstone
from penstock.infra.event_log import Recorded
from penstock.jobs import job_evolve
from penstock.jobs.job_moves import (
    GONE,
    KEPT,
    OPEN,
    RUN,
    SIZES,
    WAIT,
    Counts,
    Move,
    Tally,
    milliseconds,
    next_move,
)

T = TypeVar("T")
Event = JobsTallied
PART = 1_000  # counts, and steps, in one event: with the longest names half of what a server takes


class Step(msgspec.Struct, frozen=True):
    """What one event did to a job."""

    sequence: int
    job: JobState
    before: Move | None
    after: Move


def decide(*_: object) -> NoReturn:
    """No command is for a tally."""
    raise TypeError("A tally has no commands.")


def evolve(state: TallyState | None, event: Event, envelope: Envelope) -> TallyState:
    """The state after `event`."""
    jobs = event.jobs + (state.jobs if state else 0)
    return TallyState(id=envelope.subject, jobs=jobs, made=envelope.time)


def tally(jobs: Iterable[Sequence[Recorded]], now: datetime) -> list[JobsTallied]:
    """What `jobs`, by their events, count for, in parts that fit into a message each.

    One that has not ended is in no state any more. Empty if none of them is a job.
    """
    found, at = Tally(), milliseconds(now)
    steps = [made for records in jobs if (made := list(_steps(records)))]
    for made in steps:
        for step in made:
            _add(found, step.job, step.before, step.after)
        if (last := made[-1]).after.letter in OPEN:
            _add(found, last.job, last.after, Move(GONE, at, at))
    counts = _counted(found.counts(), at // 1000)
    recent = (s for s in chain.from_iterable(steps) if s.after.at >= at - KEPT[1] * 1000)
    return [
        JobsTallied(
            jobs=0 if place else len(steps),
            counts=tuple(counted),
            steps=tuple(_stepped(some)),
            clock=_clock(some),
        )
        for place, (counted, some) in enumerate(
            zip_longest(_parts(counts), _parts(recent), fillvalue=())
        )
    ]


def _parts(of: Iterable[T]) -> Iterator[list[T]]:
    left = iter(of)
    while part := list(islice(left, PART)):
        yield part


def _add(found: Tally, job: JobState, before: Move | None, after: Move) -> None:
    found.add(job.queue, job.name, job.priority, before, after)


def _stepped(steps: Iterable[Step]) -> Iterator[Stepped]:
    found: dict[tuple[str, str, str], list[int]] = {}
    for step in steps:
        letters = (step.before.letter if step.before else "") + step.after.letter
        found.setdefault((step.job.queue, step.job.name, letters), []).append(step.sequence)
    return (Stepped(*key, tuple(sequences)) for key, sequences in found.items())


def _steps(records: Sequence[Recorded]) -> Iterator[Step]:
    state: JobState | None = None
    before: Move | None = None
    for record in records:
        data = unwrap(record.event)
        if isinstance(data, Tombstone):
            state = before = None  # what was before counts elsewhere, what comes is another life
            continue
        if not isinstance(data, job_evolve.Event):
            return  # of another kind of aggregate
        state = job_evolve.evolve(state, data, record.event)
        if after := next_move(before, state, data, milliseconds(record.event.time)):
            yield Step(record.sequence, state, before, after)
            before = after


def _clock(steps: Iterable[Step]) -> dict[int, int]:
    last: dict[int, int] = {}
    for step in steps:
        second = step.after.at // 1000
        last[second] = max(step.sequence, last.get(second, 0))
    return last


def _counted(counts: Counts, now: int) -> Iterator[Counted]:
    """The counts over as many seconds as those of their age are kept."""
    found: dict[tuple[str, str, str, int, int, int], int] = {}
    for (at, queue, name, what, bucket), count in counts.items():
        size = next((s for s in _sizes(what) if now - at <= KEPT.get(s, now)), SIZES[-1])
        key = (queue, name, what, bucket, size, at - at % size)
        found[key] = found.get(key, 0) + count
    return (Counted(*key, count) for key, count in found.items() if count)


def _sizes(what: str) -> tuple[int, ...]:
    return SIZES[1:] if what in (WAIT, RUN) else SIZES
