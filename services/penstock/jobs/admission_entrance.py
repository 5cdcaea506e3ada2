"""Looks up why a new job may not be enqueued: see `Decider`'s `look_up`. Never decides.

A job with a unique key reserves it here, before it is stored. What it tells is taken into account
only where there is no such job yet.
"""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.contracts.envelope import Envelope
from penstock.contracts.errors import PenstockError
from penstock.contracts.jobs import EnqueueJob
from penstock.infra.deciding.decider import Load
from penstock.jobs.handlers import Handlers
from penstock.jobs.queue_states import QueueStates
from penstock.jobs.unique import UniqueKeys


class Entrance:
    """For commands that come one by one, and for those of many jobs."""

    def __init__(self, queues: QueueStates, handlers: Handlers, unique: UniqueKeys) -> None:
        self._queues = queues
        self._handlers = handlers
        self._unique = unique

    async def __call__(
        self, data: msgspec.Struct, load: Load[Any], command: Envelope
    ) -> PenstockError | None:
        """Why the job may not be enqueued, or None; None for other commands."""
        if not isinstance(data, EnqueueJob):
            return None
        if refusal := self.refusal(data):
            return refusal
        if data.rules.unique_key is None or (await load(command.subject)).sequence:
            return None
        return await self._unique.reserve(command.subject, data.rules, load)

    def refusal(self, job: EnqueueJob) -> PenstockError | None:
        """Why no new job like this is taken, as far as memory tells."""
        return self._queues.refusal(job.queue) or self._handlers.refusal(job)
