"""Jobs that failed, by the thousand: stored as the service and a worker would. Never judges."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from penstock.client import Penstock
from penstock.contracts.envelope import encode, wrap
from penstock.contracts.jobs import SERVICE, JobError, JobFailed, JobQueued
from penstock.contracts.subjects import EXPECTED
from penstock.infra.bus import Message
from penstock.infra.commit import publish_batch

TOGETHER = 400  # jobs, of two events each


async def failed(ps: Penstock, count: int, *, traceback: str = "") -> None:
    """Store jobs `d0`, `d1` and so on, each third of which failed of a KeyError."""
    for first in range(0, count, TOGETHER):
        ids = range(first, min(count, first + TOGETHER))
        batch = [message for n in ids for message in _job(ps, n, traceback)]
        last = await publish_batch(ps.session.bus, batch, timeout=10)
    ps.session.wrote(SERVICE, last)


def _job(ps: Penstock, number: int, traceback: str) -> list[Message]:
    error = JobError(type="ValueError" if number % 3 else "KeyError", message="no")
    error = msgspec.structs.replace(error, traceback=traceback)
    queued, over = JobQueued(name="x", payload={"n": number}), JobFailed(attempt=3, error=error)
    id = f"d{number}"
    subject = ps.session.bus.subjects.event(SERVICE, id)
    return [
        (subject, _event(queued, id, 1), {EXPECTED: "0"}),
        (subject, _event(over, id, 2), {}),
    ]


def _event(data: msgspec.Struct, id: str, version: int) -> bytes:
    event = wrap(
        data,
        id=f"{id}:{version}",
        subject=id,
        time=datetime.now(UTC),
        correlationid=id,
        version=version,
    )
    return encode(event)
