"""Jobs: the state that their events make. Never any logic; the questions are in `job_reads`."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from penstock.contracts.envelope import Time
from penstock.contracts.jobs import (
    Backoff,
    FailureCause,
    JobError,
    Origin,
    Rules,
)

State = Literal["pending", "processing", "completed", "failed", "cancelled", "retrying"]


class JobState(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="type", tag="job"):
    """A job. `attempt` is the one under way, or the last one; 0 before the first.

    `error` is why it failed or is tried again, `errors` the latest of all attempts; `reason` is why
    it was cancelled. `started` is when the present or last attempt began. `crashes` counts workers
    that died over it. A large result is `stored` in the object store. `cause` says why a failed job
    failed; a `discarded` one is no longer among the dead letters.
    """

    id: str
    name: str
    state: State = "pending"
    queue: str
    priority: int
    payload: dict[str, Any]
    attempt: int = 0
    max_attempts: int
    backoff: Backoff
    result: Any = None
    error: JobError | None = None
    errors: tuple[JobError, ...] = ()
    reason: str | None = None
    worker: str | None = None
    run_at: Time | None = None
    created: Time
    started: Time | None = None
    ended: Time | None = None
    tags: tuple[str, ...] = ()
    correlationid: str
    crashes: int = 0
    checkpoint: Any = None
    stored: str | None = None
    progress: bool = False
    cause: FailureCause | None = None
    discarded: bool = False
    expires_at: Time | None = None
    rules: Rules = Rules()
    origin: Origin | None = None

    @property
    def is_over(self) -> bool:
        """True once nothing more will happen."""
        return self.state in ("completed", "failed", "cancelled")
