"""Which job has a unique key in memory. Never says for how long one keeps it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from penstock.client.testing.log import MemoryLog
from penstock.contracts.errors import Duplicate
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import Rules
from penstock.jobs.unique_key import Holder, duplicate, holding, is_claimed, is_held


class MemoryUniqueKeys:
    """The registers of all keys."""

    def __init__(self, log: MemoryLog, clock: Callable[[], datetime]) -> None:
        self._log = log
        self._clock = clock
        self._holders: dict[str, Holder] = {}

    def reserve(self, job: str, rules: Rules) -> Duplicate | None:
        """Give the key of `rules` to `job`, unless another has it: then the error that says so."""
        key = rules.unique_key
        if key is None:
            return None
        holder = self._holders.get(key)
        if holder is not None and holder.job == job:
            return None
        if holder is not None and self._is_held(holder):
            return duplicate(key, holder, self._log.sequence(holder.job))
        self._holders[key] = holding(job, rules, self._clock())
        return None

    def claim(self, job: JobState) -> Duplicate | None:
        """The same for a job that is stored, before it may run."""
        return self.reserve(job.id, job.rules) if is_claimed(job, self._clock()) else None

    def _is_held(self, holder: Holder) -> bool:
        """One whose job was refused has nothing."""
        state = self._log.states.get(holder.job)
        return state is not None and is_held(holder, state, self._clock())
