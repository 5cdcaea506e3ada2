"""Fixtures for the event log: a bus, a stream of events, and events to put in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import pytest

from penstock.contracts.envelope import Envelope, wrap
from penstock.contracts.progress import ProgressUpdated
from penstock.infra.bus import Bus
from penstock.infra.streams import event_stream

MakeEvent = Callable[..., Envelope]


@pytest.fixture
async def bus(nats_url: str, prefix: str) -> AsyncIterator[Bus]:
    """A connection to the session's server, with a stream for the events of `progress`."""
    async with await Bus.connect(nats_url, prefix=prefix) as connected:
        await make_stream(connected)
        yield connected


async def make_stream(bus: Bus) -> None:
    config = event_stream(bus.subjects, "progress")
    await bus.api(f"STREAM.CREATE.{config['name']}", config)


@pytest.fixture
def event() -> MakeEvent:
    """Makes an event: `event("a", 2, by="c-1", text="...")`."""

    def make(id: str, version: int = 1, *, by: str = "c-0", text: str | None = None) -> Envelope:
        return wrap(
            ProgressUpdated(percent=version % 101, message=text),
            id=f"{by}:{version}",
            subject=id,
            time=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            correlationid=f"flow of {by}",
            causationid=by,
            version=version,
        )

    return make
