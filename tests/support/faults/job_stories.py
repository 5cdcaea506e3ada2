"""What the log tells of each job. Reads nothing by itself and never judges."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from penstock.contracts.envelope import unwrap
from penstock.contracts.jobs import JobCompleted, JobQueued, JobRetrying, JobStarted
from penstock.infra.event_log import Recorded

ENDS = frozenset({"completed", "failed", "cancelled"})


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a job: `lost` if it tells that a worker died."""

    sequence: int
    version: int
    name: str
    time: datetime
    attempt: int = 0
    worker: str = ""
    run_at: datetime | None = None
    result: Any = None
    lost: bool = False


Story = list[Moment]


class Stories:
    """Every job's moments, by its id."""

    def __init__(self, records: Iterable[Recorded] = ()) -> None:
        self.of: defaultdict[str, Story] = defaultdict(list)
        self.sequence = 0
        self.events = 0
        self.ended: set[str] = set()
        for record in records:
            self.add(record)

    def add(self, record: Recorded) -> None:
        moment = _moment(record)
        self.of[record.event.subject].append(moment)
        self.sequence = record.sequence
        self.events += 1
        if moment.name in ENDS:
            self.ended.add(record.event.subject)


def count(story: Story, name: str) -> int:
    return sum(moment.name == name for moment in story)


def restarts(story: Story) -> int:
    """Starts that neither were the first nor followed a failure of the handler."""
    wanted = sum(m.name == "retrying" and not m.lost for m in story)
    return max(0, count(story, "started") - 1 - wanted)


def _moment(record: Recorded) -> Moment:
    event = record.event
    what: dict[str, Any] = {}
    match unwrap(event):
        case JobQueued(run_at=run_at):
            what = {"run_at": run_at}
        case JobStarted(attempt=attempt, worker=worker):
            what = {"attempt": attempt, "worker": worker}
        case JobRetrying(attempt=attempt, run_at=run_at, error=error, crash=crash):
            lost = crash or error.type == "WorkerLost"
            what = {"attempt": attempt, "run_at": run_at, "lost": lost}
        case JobCompleted(attempt=attempt, result=result):
            what = {"attempt": attempt, "result": result}
    return Moment(
        sequence=record.sequence,
        version=event.version,
        name=event.type.split(".")[2],
        time=event.time,
        **what,
    )
