"""Carries out the exports that were asked for: renders each, and stores what came of it as events.

Every step may be done twice: after a crash the export is begun again. Never decides what may be
exported.
"""

from __future__ import annotations

import logging
import uuid
from datetime import UTC, datetime

import msgspec

from penstock.contracts.envelope import Envelope, type_of, unwrap, wrap
from penstock.contracts.errors import InvalidMessage, NotFound, Unavailable
from penstock.contracts.exports import (
    ExportCompleted,
    ExportFailed,
    ExportRequested,
    ExportStarted,
    ExportState,
)
from penstock.exports.documents import Documents
from penstock.exports.domain import State
from penstock.exports.formats import format_named
from penstock.exports.renderer import RenderedTooLong, Renderer
from penstock.infra.deciding.decider import Aggregate, Decider
from penstock.infra.event_log import EventLog
from penstock.infra.objects import Damaged

log = logging.getLogger(__name__)

ATTEMPTS = 10  # beginnings of an export that never reached an end
_REQUESTED = type_of(ExportRequested).unversioned
_AT_FAULT = (InvalidMessage, NotFound, Damaged, RenderedTooLong)  # each says what to do


class Exporter:
    """Handles the events of the service one by one; only requests mean work."""

    def __init__(
        self, event_log: EventLog, decider: Decider[State], documents: Documents, renderer: Renderer
    ) -> None:
        self._log = event_log
        self._decider = decider
        self._documents = documents
        self._renderer = renderer

    async def handle(self, event: Envelope) -> None:
        """Bring the export that `event` asked for to its end, unless it has one.

        Raises Unavailable or Conflict when it is to be tried again.
        """
        if event.type.rpartition(".")[0] != _REQUESTED:
            return
        export = await self._decider.load(event.subject)
        if isinstance(export.state, ExportState) and not export.state.is_over:
            await self._carry_out(event, export, export.state)

    async def _carry_out(
        self, event: Envelope, export: Aggregate[State], state: ExportState
    ) -> None:
        if state.attempts >= ATTEMPTS:
            error = f"Writing the file was begun {ATTEMPTS} times and never finished; see the log."
            await self._append(event, export, ExportFailed(error=error))
            return
        sequence = await self._append(event, export, ExportStarted())
        begun = Aggregate[State](export.id, state, export.version + 1, sequence)
        await self._append(event, begun, await self._outcome(event, unwrap(event)))

    async def _outcome(
        self, event: Envelope, request: ExportRequested
    ) -> ExportCompleted | ExportFailed:
        try:
            document = await self._documents.read(request.content)
            format = format_named(request.format)
            file = await self._renderer.render(event.subject, document, format)
        except _AT_FAULT as error:
            log.info("export %s failed: %s", event.subject, error)
            return ExportFailed(error=str(error))
        except Unavailable:
            raise
        except OSError as error:
            raise Unavailable(f"The file cannot be written: {error.strerror}.") from error
        except Exception as error:
            log.exception("export %s failed", event.subject)
            return ExportFailed(error=f"Writing failed: {type(error).__name__}; see the log.")
        return ExportCompleted(file=file)

    async def _append(self, cause: Envelope, export: Aggregate[State], data: msgspec.Struct) -> int:
        event = wrap(
            data,
            # Of its own, also for the same step by another instance: the second is to conflict.
            id=uuid.uuid4().hex,
            subject=export.id,
            time=datetime.now(UTC),
            correlationid=cause.correlationid,
            cause=cause,
            actor=cause.actor,
            version=export.version + 1,
            traceparent=cause.traceparent,
        )
        return (await self._log.append([event], expected=export.sequence)).sequence
