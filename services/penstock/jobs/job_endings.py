"""The commands that end what waited for too long, or goes with a job that was ended. Pure.

When a job waited for too long is known to `expiry` and `handlers_missing`.
"""

from __future__ import annotations

from penstock.contracts.envelope import Envelope, unwrap
from penstock.contracts.jobs import FailJob, JobCancelled, JobError, JobFailed
from penstock.contracts.progress import CancelProgress, FailProgress

EXPIRED = FailJob(
    error=JobError(type="TimedOut", message="The time for the whole job is over."), cause="timeout"
)


def unhandled(name: str, grace: float) -> FailJob:
    """Ends a job whose name nobody had a handler of for `grace` seconds."""
    message = f"No worker has had a handler of {name!r} for {grace:g} s."
    return FailJob(error=JobError(type="Unhandled", message=message), cause="unhandled")


def end_of_progress(last: Envelope) -> CancelProgress | FailProgress | None:
    """Ends the progress of a job whose last event is `last`, if others than its worker ended it."""
    match unwrap(last):
        case JobCancelled(reason=reason):
            return CancelProgress(reason=reason)
        case JobFailed(error=error):
            return FailProgress(error=f"{error.type}: {error.message}")
        case _:
            return None
