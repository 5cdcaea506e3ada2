"""The jobs of a fault test: what is asked for, and what its clients were told. Never judges."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Literal

import msgspec

from penstock.contracts.jobs import Backoff, EnqueueJob, Rules
from penstock.contracts.jobs_bulk import JobSpec

FLAKY, DELAYED, CANCELLED = 0.1, 0.1, 0.1  # shares of the jobs
DELAY = (1.0, 2.0)  # seconds
SOON = Backoff(initial=0.5, maximum=1.0)
UNLUCKY = Rules(max_crashes=100)  # a job may lose many workers here


class Asked(msgspec.Struct, kw_only=True, eq=False):
    """One job, how it is to go, and whether its client was told that it is there.

    A `flaky` job fails its first attempt. `told` is what came of its cancellation.
    """

    number: int
    flaky: bool = False
    delay: float = 0.0
    cancel: bool = False
    known: bool = False
    told: Literal["cancelled", "refused"] | None = None

    @property
    def id(self) -> str:
        return f"job-{self.number}"

    @property
    def command(self) -> EnqueueJob:
        """The command by which it is enqueued."""
        return EnqueueJob(
            name="square",
            payload={"n": self.number, "flaky": self.flaky},
            delay=self.delay,
            max_attempts=100,
            backoff=SOON,
            rules=UNLUCKY,
        )

    @property
    def spec(self) -> JobSpec:
        """The same as one of many."""
        return JobSpec(id=self.id, **msgspec.structs.asdict(self.command))

    @property
    def result(self) -> int:
        """What the handler returns in the end."""
        return self.number * self.number


def jobs(number: int, chance: random.Random) -> Iterator[Asked]:
    """So many jobs, of which some fail first, some are delayed and some will be cancelled."""
    for n in range(number):
        cancel = chance.random() < CANCELLED
        # Half of those are sure to be pending still when they are cancelled.
        delayed = chance.random() < (0.5 if cancel else DELAYED)
        yield Asked(
            number=n,
            flaky=chance.random() < FLAKY,
            delay=round(chance.uniform(*DELAY), 3) if delayed else 0.0,
            cancel=cancel,
        )
