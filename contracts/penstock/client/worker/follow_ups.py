"""What has to follow the start and the end of a job before its item may be acknowledged.

All of it may be done twice: a crash amid it is finished by the next delivery of the item. Never
stores how a job stands.
"""

from __future__ import annotations

import asyncio
import logging

from penstock.client.worker.decisions import End
from penstock.client.worker.holding import RETRY, Holding
from penstock.client.worker.job_progress import end_progress
from penstock.client.worker.workflow_ends import ended
from penstock.contracts.envelope import type_of, unwrap
from penstock.contracts.errors import Unavailable
from penstock.contracts.jobs import (
    JobCancelled,
    JobCompleted,
    JobFailed,
    JobRetrying,
    JobSnoozed,
    JobStarted,
    Moved,
)

log = logging.getLogger(__name__)

Over = JobCompleted | JobFailed | JobCancelled
STARTED, COMPLETED = str(type_of(JobStarted)), str(type_of(JobCompleted))


async def follow_up(job: Holding, end: End) -> None:
    """Do what follows the end that is the head of the journal."""
    if isinstance(end, Over):
        await tell_over(job, end)
        return
    if isinstance(end, JobRetrying | JobSnoozed):
        await job.journal.wake_at(end.run_at)
    if job.is_end_told:
        await settle(job)


async def tell_over(job: Holding, end: Over) -> None:
    """Tell those who wait for the job's end, at the head of the journal."""
    if job.is_end_told:
        await settle(job)
    elif job.ready.workflow is not None:
        await tell_workflow(job, job.ready.workflow, end)
    if job.has_progress or (not isinstance(end, JobCancelled) and end.progress):
        await end_progress(job.station.ps, job.id, end, job.journal.head.sequence)


async def settle(job: Holding) -> None:
    """Tell those who wait for the job, for as long as that takes: giving up would cost a crash.

    The item's lease is kept meanwhile, and telling twice is harmless.
    """
    while True:
        try:
            await job.station.settlements.tell(job.id, job.journal.head.sequence, _moved(job))
            return
        except Unavailable as error:
            log.warning("job %s cannot be settled yet: %s", job.id, error)
            await asyncio.sleep(RETRY)


def _moved(job: Holding) -> Moved | None:
    """What the head of the journal says, if it is what nearly all say."""
    head, started = job.journal.head, job.started_at
    if started is None or head.time is None:
        return None
    if head.type == STARTED:
        return Moved(id=job.id, sequence=head.sequence, started=started)
    if head.type == COMPLETED:
        return Moved(id=job.id, sequence=head.sequence, started=started, ended=head.time)
    return None


async def tell_workflow(job: Holding, workflow: str, end: Over) -> None:
    """Tell the job's workflow of its end, for as long as that takes; see `settle`."""
    told, event = ended(job.id, end), job.journal.last
    if told is None or event is None:
        await settle(job)  # the service looks at the job
        return
    while True:
        try:
            await job.station.workflow_ends.tell(workflow, told, event)
            return
        except Unavailable as error:
            log.warning("the workflow of job %s cannot be told yet: %s", job.id, error)
            await asyncio.sleep(RETRY)


async def end_progress_of_others(job: Holding) -> None:
    """If somebody else ended the job, such as by cancelling it, its progress ends too."""
    since = [unwrap(record.event) for record in await job.journal.since(job.sequence)]
    if since and isinstance(since[-1], Over):
        await end_progress(job.station.ps, job.id, since[-1], job.journal.head.sequence)
