"""Erases an aggregate: a tombstone first, then everything that any store of its service holds.

Done in the order of what is still needed to go on after a crash: the events themselves go last, and
until then the command, delivered again, begins anew. Never decides whether something may be erased.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from penstock.contracts.answers import Outcome
from penstock.contracts.envelope import Envelope, unwrap, wrap
from penstock.contracts.errors import NotFound
from penstock.contracts.lifecycle import ERASED, Erase
from penstock.contracts.lifecycle import Erased as ErasedEvent
from penstock.infra.event_log import JetStreamEventLog, Recorded

Remove = Callable[[Envelope, Sequence[Recorded]], Awaitable[None]]


class Eraser:
    """Carries out `Erase` for one service.

    Each of `removals` gets the command and the events that there still are, and removes what its
    store holds of the aggregate `command.subject`; it may be called again after a crash.
    """

    def __init__(self, log: JetStreamEventLog, removals: list[Remove]) -> None:
        self._log = log
        self._removals = removals

    async def __call__(self, command: Envelope, erase: Erase) -> Outcome:
        """Erase the aggregate `command.subject`; a second time finishes the first.

        Raises NotFound, or Conflict if others append meanwhile.
        """
        events = (await self._log.load(command.subject)).events
        if not events:
            raise NotFound(f"There is nothing by the id {command.subject!r} to erase.")
        sequence = await self._tombstone(command, erase, events)
        for remove in self._removals:
            await remove(command, events)
        await self._log.purge(command.subject, before=sequence)
        return Outcome(id=command.id, sequence=sequence)

    async def _tombstone(self, command: Envelope, erase: Erase, events: Sequence[Recorded]) -> int:
        """The sequence of the tombstone, written unless it stands there."""
        last = events[-1]
        if isinstance(unwrap(last.event), ErasedEvent):
            return last.sequence
        tombstone = wrap(
            ERASED[self._log.service](
                reason=erase.reason, sequences=tuple(record.sequence for record in events)
            ),
            id=f"{command.id}:1",
            subject=command.subject,
            time=datetime.now(UTC),
            correlationid=command.correlationid,
            cause=command,
            actor=command.actor,
            version=last.event.version + 1,
            traceparent=command.traceparent,
        )
        return (await self._log.append([tombstone], expected=last.sequence)).sequence
