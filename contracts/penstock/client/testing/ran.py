"""What came of the attempts that a test had run, and whether they have an end. Never runs any."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

import msgspec

from penstock.contracts.job_state import JobState

MOST = 100_000  # attempts at one virtual time


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """How many attempts ended how; a `snoozed` one is not counted as an attempt of its job."""

    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    retrying: int = 0
    snoozed: int = 0

    def __add__(self, other: Ran) -> Ran:
        fields = self.__struct_fields__
        return Ran(**{field: getattr(self, field) + getattr(other, field) for field in fields})


class Tally:
    """Counts them."""

    def __init__(self) -> None:
        self._ended: Counter[str] = Counter()
        self._moment: tuple[datetime | None, int] = None, 0

    def add(self, job: JobState, now: datetime) -> None:
        """One more, which its job is behind. Raises RuntimeError for one too many at one time."""
        self._ended["snoozed" if job.state == "pending" else job.state] += 1
        moment, count = self._moment
        self._moment = now, count + 1 if moment == now else 1
        if count >= MOST and moment == now:
            raise RuntimeError(
                f"{MOST} attempts ran at one virtual time, the last one of {job.name!r}: does a "
                "handler enqueue itself, or snooze, without a delay?"
            )

    def ran(self) -> Ran:
        """What came of all."""
        return Ran(**self._ended)
