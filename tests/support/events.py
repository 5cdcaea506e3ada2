"""Events of progress for tests of whatever stores them: the same arguments, the same event."""

from __future__ import annotations

from datetime import UTC, datetime

from penstock.contracts.envelope import Envelope, wrap
from penstock.contracts.progress import ProgressUpdated


def event(id: str, version: int = 1, *, by: str = "c-0", text: str | None = None) -> Envelope:
    """The event `version` of the aggregate `id`, caused by the command `by`."""
    return wrap(
        ProgressUpdated(percent=version % 101, message=text),
        id=f"{by}:{version}",
        subject=id,
        time=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        correlationid=f"flow of {by}",
        causationid=by,
        version=version,
    )
