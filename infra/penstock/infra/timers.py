"""Timers of a service: a message that arrives at its time. Never says what it means.

Kept by the server as scheduled messages, so that they outlast every process:
https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-51.md
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from penstock.infra.bus import Bus, Message
from penstock.infra.commit import publish_batch
from penstock.infra.consuming.removal import remove_message, remove_subject
from penstock.infra.storing import REPLY

SCHEDULE = "Nats-Schedule"
TARGET = "Nats-Schedule-Target"

Timer = tuple[str, datetime, bytes]  # see `Timers.set`


class Timers:
    """One timer for each id. A due message arrives on `Subjects.due`, at least once."""

    def __init__(self, bus: Bus, service: str) -> None:
        self._bus = bus
        self._service = service
        self._stream = bus.subjects.stream("sched")

    async def set(self, id: str, at: datetime, body: bytes) -> None:
        """Send `body` at `at`, at once if that is past; replaces the timer that was there.

        Raises Unavailable or Timeout: set it again then.
        """
        await self._bus.publish_acked(*self._message(id, at, body))

    async def set_many(self, timers: Sequence[Timer]) -> None:
        """As `set` each of up to 1000, all or none; no two may have the same id.

        Raises as `publish_batch` does: whoever gets an error sets them again, or one by one.
        """
        await publish_batch(self._bus, [self._message(*one) for one in timers], timeout=REPLY)

    async def cancel(self, id: str) -> None:
        """Remove the timer, and its due message if that was not taken yet."""
        for subject in (
            self._bus.subjects.timer(self._service, id),
            self._bus.subjects.due(self._service, id),
        ):
            await remove_subject(self._bus, self._stream, subject)

    async def taken(self, sequence: int) -> None:
        """The due message at `sequence` did its work: remove it and no other one of its id.

        One that the server had lost sight of was put back behind those that came after it, so that
        what stands before is not always older.
        """
        await remove_message(self._bus, self._stream, sequence)

    def _message(self, id: str, at: datetime, body: bytes) -> Message:
        moment = at.astimezone(UTC).isoformat().replace("+00:00", "Z")
        headers = {
            SCHEDULE: f"@at {moment}",
            TARGET: self._bus.subjects.due(self._service, id),
        }
        return self._bus.subjects.timer(self._service, id), body, headers
