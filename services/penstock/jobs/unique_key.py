"""A unique key: which job has it, and for how long. Pure.

Where it is written down is `unique`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from penstock.contracts.errors import Duplicate
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import Rules


class Holder(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which job has the key, since when, and until when whatever becomes of it."""

    job: str
    at: datetime
    until: datetime | None = None


def holding(job: str, rules: Rules, now: datetime) -> Holder:
    """What is written down of a job that gets the key of its rules now."""
    lasts = rules.unique_for
    return Holder(job, now, now + timedelta(seconds=lasts) if lasts else None)


def is_held(holder: Holder, state: Any, now: datetime) -> bool:
    """Whether `holder` keeps its key while its job has this state."""
    if holder.until is not None:
        return now < holder.until
    return isinstance(state, JobState) and not state.is_over


def is_claimed(job: JobState, now: datetime) -> bool:
    """Whether a job that is stored needs its key to be offered to workers."""
    if job.rules.unique_key is None or job.state not in ("pending", "retrying"):
        return False
    lasts = job.rules.unique_for
    return not lasts or now < job.created + timedelta(seconds=lasts)


def duplicate(key: str, holder: Holder, sequence: int) -> Duplicate:
    """The error that says who has it; `sequence` is that of its job."""
    until = f"until {holder.until:%Y-%m-%d %H:%M:%S} UTC" if holder.until else "until it is over"
    return Duplicate(
        f"The job {holder.job!r} has the unique key {key!r} {until}.",
        id=holder.job,
        sequence=sequence,
    )
