"""A job run anew with the input that it had, and two jobs compared. Never changes the old one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec

from penstock.client.session import Session, state_of
from penstock.contracts.answers import HistoryEntry
from penstock.contracts.errors import Archived, NotFound
from penstock.contracts.job_reads import Comparison, Difference, Outcome
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import SERVICE, EnqueueJob, JobQueued, Origin

SHOWN = 100  # differences


async def rerun(session: Session, id: str, command_id: str) -> JobState:
    """See `Jobs.rerun`."""
    history = await session.history(SERVICE, id)
    queued = next((one for one in history if one.type.split(".")[2] == "queued"), None)
    if queued is None:
        raise NotFound(f"{id!r} is not a job whose input is known.", id=id)
    input = msgspec.convert(queued.data, JobQueued)
    command = EnqueueJob(
        name=input.name,
        payload=input.payload,
        queue=input.queue,
        priority=input.priority,
        max_attempts=input.max_attempts,
        backoff=input.backoff,
        tags=input.tags,
        # The old one may have the key still.
        rules=msgspec.structs.replace(input.rules, unique_key=None, unique_for=None),
        origin=Origin(rerun_of=id),
    )
    outcome = await session.command(command, id=command_id, command_id=command_id)
    return state_of(outcome, JobState)


async def ever(session: Session, id: str) -> JobState:
    """The job as it is, or as it was before it went to the archive. Raises NotFound."""
    try:
        return await session.get(SERVICE, id, JobState, at=None)
    except Archived:
        last = _last(await session.history(SERVICE, id))
        return await session.get(SERVICE, id, JobState, at=last.sequence)


def _last(history: list[HistoryEntry]) -> HistoryEntry:
    return [one for one in history if one.type.split(".")[2] != "archived"][-1]


def compared(one: JobState, other: JobState, result: Any, other_result: Any) -> Comparison:
    """The two beside each other."""
    differences = tuple(islice(_differences("$", result, other_result), SHOWN))
    outcomes = _outcome(one, result), _outcome(other, other_result)
    same = not differences and _how(one) == _how(other)
    return Comparison(one=outcomes[0], other=outcomes[1], same=same, differences=differences)


def _how(job: JobState) -> tuple[str, str, str]:
    return job.state, *((job.error.type, job.error.message) if job.error else ("", ""))


def _outcome(job: JobState, result: Any) -> Outcome:
    took = job.ended - job.started if job.started and job.ended else None
    return Outcome(
        id=job.id,
        state=job.state,
        attempts=job.attempt,
        crashes=job.crashes,
        seconds=took.total_seconds() if took else None,
        error=job.error,
        result=result,
    )


def _differences(path: str, one: Any, other: Any) -> Iterator[Difference]:
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted(one.keys() | other.keys()):
            yield from _differences(f"{path}.{name}", one.get(name), other.get(name))
    elif isinstance(one, list) and isinstance(other, list):
        for place in range(max(len(one), len(other))):
            here = one[place] if place < len(one) else None
            there = other[place] if place < len(other) else None
            yield from _differences(f"{path}[{place}]", here, there)
    elif type(one) is not type(other) or one != other:
        yield Difference(path=path, one=one, other=other)
