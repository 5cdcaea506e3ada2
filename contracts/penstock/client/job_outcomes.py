"""What a job that is over left: its result, or why there is none. Never waits for its end."""

from __future__ import annotations

from typing import Any

from penstock.client.session import Session
from penstock.client.worker.results import fetched
from penstock.contracts.errors import JobFailed, NotFound
from penstock.contracts.job_state import JobState
from penstock.infra.objects import Objects


async def kept(session: Session, job: JobState) -> Any:
    """What its handler returned. Raises NotFound once that was let go of."""
    if job.stored is None:
        return job.result
    try:
        return await fetched(Objects(session.bus), job.stored)
    except NotFound as error:
        raise NotFound(
            f"The result of the job {job.id!r} was kept for as long as PENSTOCK_RESULT_AGE and "
            "PENSTOCK_RESULT_COUNT say, and is gone.",
            id=job.id,
        ) from error


def failure(job: JobState) -> JobFailed:
    """What is raised in place of the result of a job that was cancelled or failed."""
    if job.state == "cancelled":
        why = f"was cancelled: {job.reason}" if job.reason else "was cancelled"
    else:
        error = f"{job.error.type}: {job.error.message}" if job.error else "no reason was kept"
        attempts = "1 attempt" if job.attempt == 1 else f"{job.attempt} attempts"
        why = f"failed after {attempts}: {error}"
    return JobFailed(
        f"The job {job.id!r} ({job.name}) {why.rstrip('.')}.",
        id=job.id,
        state=job.state,
        error=job.error.type if job.error else None,
        message=job.error.message if job.error else job.reason,
    )
