"""Becomes the holder of a job that has moved on since its item was made, or finds out that it is
of no use.

Rare: what did not happen to anybody before is started without looking. Never runs a handler.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from penstock.client.worker.decisions import Append, Drop, Event, Wait, taking
from penstock.client.worker.follow_ups import Over, settle, tell_over
from penstock.client.worker.holding import RETRY, Holding
from penstock.contracts.envelope import unwrap
from penstock.contracts.errors import Conflict, Unavailable
from penstock.contracts.jobs import JobCheckpointed, JobFailed, JobLogged, JobRetrying, JobStarted
from penstock.infra.event_log import Recorded

log = logging.getLogger(__name__)

TRIES = 5  # times that others may be quicker at the same job before it is left to them


async def begin_slowly(job: Holding) -> bool:
    """Whether the job, which has moved on or nobody knows, is ours to run; else the item is done.

    Raises Unavailable if others are quicker again and again: the item then comes again. While the
    server is away it waits, since a start that was stored unseen would cost a crash.
    """
    tries = 0
    while tries < TRIES:
        try:
            if (is_ours := await _looked_into(job)) is not None:
                return is_ours
            tries += 1
        except Unavailable as error:
            log.warning("job %s cannot begin yet: %s", job.id, error)
            await asyncio.sleep(RETRY)
    raise Unavailable("Others change the job faster than it can be started.")


async def _looked_into(job: Holding) -> bool | None:
    """Whether it is ours to run; None if somebody was quicker and it has to be seen again."""
    records = await job.journal.since(job.ready.sequence)
    since = [unwrap(record.event) for record in records]
    _learn(job, since)
    if _begun_unseen(job, records, since):
        return True
    match _taking(job, since):
        case Drop():
            await _dropped(job, since)
            return False
        case Wait(run_at):
            await job.journal.wake_at(run_at)
            return False
        case Append(events):
            taken = await _took(job, events)
            return isinstance(events[-1], JobStarted) if taken else None


def _learn(job: Holding, since: Sequence[Any]) -> None:
    """What earlier holders of this item left."""
    job.crashes = job.ready.crashes
    for event in since:
        match event:
            case JobCheckpointed():
                job.checkpoint = event.checkpoint
            case JobLogged(progress=True):
                job.has_progress = True
            case JobRetrying(crash=True):
                job.crashes += 1


def _begun_unseen(job: Holding, records: Sequence[Recorded], since: Sequence[Any]) -> bool:
    """Whether the start was stored here before, and only its receipt was lost."""
    if not records or not isinstance(since[-1], JobStarted):
        return False
    last = records[-1]
    if not job.journal.wrote(last.event):
        return False
    job.event, job.attempt = last.event, since[-1].attempt
    job.begun(last.sequence)
    return True


def _taking(job: Holding, since: Sequence[Any]) -> Drop | Wait | Append:
    return taking(since, job.ready, item=job.item, worker=job.station.worker, now=datetime.now(UTC))


async def _took(job: Holding, events: tuple[Event, ...]) -> bool:
    try:
        await job.journal.store(events)
    except Conflict:
        return False
    job.event = job.journal.last
    job.sequence = job.started = job.journal.head.sequence
    end = events[-1]
    job.crashes += sum(isinstance(one, JobRetrying) and one.crash for one in events)
    if isinstance(end, JobStarted):
        job.attempt, job.started_at = end.attempt, datetime.now(UTC)
    elif isinstance(end, JobFailed):
        await tell_over(job, end)
    return True


async def _dropped(job: Holding, since: Sequence[Any]) -> None:
    """Finish what the last holder may have left undone: the job is over, or not ours."""
    last = since[-1] if since else None
    if isinstance(last, Over):
        await tell_over(job, last)
    elif job.ready.settle:
        await settle(job)
