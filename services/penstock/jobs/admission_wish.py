"""What is asked of a round at the gates, and done for whom. Never says what comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from penstock.contracts.job_state import JobState
from penstock.infra.deciding.aggregate import Aggregate
from penstock.jobs.gate import Gate

Job = Aggregate[JobState]


class Wish:
    """A job to see to, or a gate to fill, of which `places` may be known. With `asks` the job is to
    be let in.

    `fresh`: its gates are to be looked at in the log first. With `undo` it was let in and did not
    wait any more: it did not begin by that. `done` once all that came of it is.
    """

    __slots__ = ("asks", "done", "fresh", "gate", "job", "places", "undo")

    def __init__(
        self,
        *,
        job: Job | None = None,
        gate: str = "",
        places: Gate | None = None,
        asks: bool = False,
        fresh: bool = False,
        undo: bool = False,
    ) -> None:
        self.job = job
        self.places = places
        self.gate = gate
        self.asks = asks
        self.fresh = fresh
        self.undo = undo
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


def undone(job: Job, gates: Sequence[str]) -> list[Wish]:
    """What takes places back that a job got which did not wait any more."""
    if job.state is not None:
        return [Wish(job=job, undo=True)]
    return [Wish(job=job, gate=gate) for gate in gates]
