"""Gives a job back whose work item is of no use any more, for a worker that cannot know.

Never runs a job, and never takes one from a worker that has come to an outcome: the fence decides.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from penstock.contracts.envelope import wrap
from penstock.contracts.errors import Conflict, Unavailable
from penstock.contracts.jobs import JobReleased, JobStarted
from penstock.infra.bus import Stored
from penstock.infra.deciding.decider import Load
from penstock.infra.event_log import EventLog, Recorded
from penstock.jobs.dispatch import Dispatch
from penstock.jobs.items import job_of, standing

TRIES = 5  # times that others may be quicker at the same job
LOST = "The server lost sight of its work item."


class GivingBack:
    """What `Stranded` does with a work item that some worker had already.

    Put back as it is, such an item would stand in another place, and be taken for a duplicate of
    the one that the job was started with: the job would never go on.
    """

    def __init__(self, event_log: EventLog, load: Load[Any], dispatch: Dispatch) -> None:
        self._log = event_log
        self._load = load
        self._dispatch = dispatch

    async def __call__(self, item: Stored) -> bool:
        """Offer the job of `item` anew if it was started with it; whether it was.

        Raises Unavailable: look again then.
        """
        id = job_of(item)
        for _ in range(TRIES):
            loaded = await self._log.load(id)
            match standing(loaded.events):
                case JobStarted(item=held) as started if held == item.sequence:
                    await release(self._log, loaded.events[-1], started, "stranded", LOST)
                case JobReleased(item=held) if held == item.sequence:
                    await self._offer(id, loaded.sequence)
                    return True
                case _:
                    return False
        raise Unavailable(f"Others change the job {id!r} faster than it can be given back.")

    async def _offer(self, id: str, sequence: int) -> None:
        job = await self._load(id)
        if job.sequence < sequence or job.last is None:
            raise Unavailable("The replica that was asked for the job's events lags behind.")
        await self._dispatch.effect(job, job.last)


async def release(
    event_log: EventLog, last: Recorded, started: JobStarted, by: str, reason: str
) -> None:
    """Store that a job is given back, behind its `last` event. `by` is part of the event's id.

    Does nothing if the job has moved on by itself.
    """
    cause = last.event
    event = wrap(
        JobReleased(
            attempt=started.attempt, worker=started.worker, item=started.item, reason=reason
        ),
        id=f"{cause.subject}:{last.sequence}:{by}",
        subject=cause.subject,
        time=datetime.now(UTC),
        correlationid=cause.correlationid,
        cause=cause,
        actor=cause.actor,
        version=cause.version + 1,
        traceparent=cause.traceparent,
    )
    try:
        await event_log.append([event], expected=last.sequence)
    except Conflict:
        return
