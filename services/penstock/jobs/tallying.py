"""Stores what jobs count for that leave the log, so that a view made anew counts them too.

Never looks at a view, and never decides what leaves the log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from penstock.contracts.envelope import Envelope, wrap
from penstock.contracts.job_tally import tally_id
from penstock.infra.event_log import EventLog, Recorded
from penstock.jobs.tally import tally


class Tallying:
    """Called for what a command archived, and for what one erases; each may come again."""

    def __init__(self, event_log: EventLog) -> None:
        self._log = event_log

    async def archived(self, command: Envelope, gone: Mapping[str, Sequence[Recorded]]) -> None:
        """Store the tally of all that a command moved to the archive. Raises Unavailable."""
        await self._store(command, list(gone.values()))

    async def erased(self, command: Envelope, events: Sequence[Recorded]) -> None:
        """Store the tally of the one that a command erases. Raises Unavailable."""
        await self._store(command, [events])

    async def _store(self, command: Envelope, jobs: Sequence[Sequence[Recorded]]) -> None:
        now = datetime.now(UTC)
        events = [
            wrap(
                part,
                # The same in every delivery: the append knows it again.
                id=f"{command.id}:tally:{version}",
                subject=tally_id(command.id),
                time=now,
                correlationid=command.correlationid,
                cause=command,
                actor=command.actor,
                version=version,
                traceparent=command.traceparent,
            )
            for version, part in enumerate(tally(jobs, now), 1)
        ]
        if events:
            await self._log.append(events, expected=0)
