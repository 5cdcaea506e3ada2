"""What documents and exports are: states, `decide` and `evolve`. Pure: time and ids are data."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import assert_never

import msgspec
from msgspec.structs import replace

from penstock.contracts.envelope import Envelope
from penstock.contracts.errors import InvalidMessage, NotFound, Refused
from penstock.contracts.exports import (
    DOCUMENT,
    HISTORY,
    Content,
    DocumentPut,
    DocumentState,
    ExportCompleted,
    ExportFailed,
    ExportRequested,
    ExportStarted,
    ExportState,
    PutDocument,
    PutStoredDocument,
    RequestExport,
    document_named,
)
from penstock.exports.formats import format_named
from penstock.infra.deciding.decider import Context

Event = DocumentPut | ExportRequested | ExportStarted | ExportCompleted | ExportFailed
State = DocumentState | ExportState
PAGES = ("documents", "formats")  # /exports/<page> is something else than an export


FINAL = ("completed", "failed")


def finished(state: State) -> str | None:
    """The final state an export is in, if it is in one; a document always lives."""
    return state.state if isinstance(state, ExportState) and state.is_over else None


def decide(
    state: State | None, command: msgspec.Struct, context: Context
) -> Sequence[msgspec.Struct]:
    """The events that `command` causes. Raises NotFound, Refused or InvalidMessage.

    `context.facts` is the stored Content for a document that is put, and for an export the
    DocumentState of what it renders, None if there is none.
    """
    key, facts = context.command.subject, context.facts
    match command:
        case PutDocument() | PutStoredDocument():
            return _put(state, key, facts)
        case RequestExport():
            return _request(state, command, key, facts)
        case _:
            raise TypeError(f"not a command of exports: {type(command).__name__}")


def _put(state: State | None, key: str, content: Content) -> Sequence[Event]:
    kind, _ = document_named(key)
    if kind == HISTORY:
        raise InvalidMessage(
            f"Documents of the kind {HISTORY!r} are made from events; put yours under another kind."
        )
    if isinstance(state, DocumentState) and state.content.sha256 == content.sha256:
        return []
    return [DocumentPut(content=content)]


def _request(
    state: State | None, command: RequestExport, key: str, document: DocumentState | None
) -> Sequence[Event]:
    if key.startswith(DOCUMENT) or key in PAGES:
        raise InvalidMessage(f"{key!r} cannot be the id of an export; choose another.")
    format_named(command.format)
    if isinstance(state, ExportState):
        return _again(state, command)
    if document is None:
        raise NotFound(
            f"There is no {command.kind} {command.document!r} to export; put it first.",
            kind=command.kind,
            document=command.document,
        )
    return [
        ExportRequested(
            kind=command.kind,
            document=command.document,
            format=command.format,
            content=document.content,
            version=document.version,
            as_of=document.updated,
        )
    ]


def _again(state: ExportState, command: RequestExport) -> Sequence[Event]:
    if (state.kind, state.document, state.format) == (
        command.kind,
        command.document,
        command.format,
    ):
        return []
    raise Refused(
        f"The export {state.id!r} is of {state.kind} {state.document!r} to {state.format}; "
        "use another id.",
        id=state.id,
    )


def evolve(state: State | None, event: msgspec.Struct, envelope: Envelope) -> State:
    """The state after `event`."""
    match event:
        case DocumentPut():
            return _version(state, event, envelope)
        case ExportRequested():
            return _requested(event, envelope)
        case ExportStarted() | ExportCompleted() | ExportFailed():
            if not isinstance(state, ExportState):
                raise ValueError(f"{envelope.type} comes before any request")
            return _after(replace(state, updated=envelope.time), event, envelope.time)
        case _:
            raise TypeError(f"not an event of exports: {type(event).__name__}")


def _version(state: State | None, event: DocumentPut, envelope: Envelope) -> DocumentState:
    kind, id = document_named(envelope.subject)
    return DocumentState(
        kind=kind,
        id=id,
        content=event.content,
        version=envelope.version,
        created=state.created if state else envelope.time,
        updated=envelope.time,
    )


def _requested(event: ExportRequested, envelope: Envelope) -> ExportState:
    return ExportState(
        id=envelope.subject,
        kind=event.kind,
        document=event.document,
        format=event.format,
        version=event.version,
        as_of=event.as_of,
        created=envelope.time,
        updated=envelope.time,
    )


def _after(
    state: ExportState, event: ExportStarted | ExportCompleted | ExportFailed, now: datetime
) -> ExportState:
    match event:
        case ExportStarted():
            return replace(state, state="processing", attempts=state.attempts + 1)
        case ExportCompleted():
            return replace(state, state="completed", file=event.file, ended=now)
        case ExportFailed():
            return replace(state, state="failed", error=event.error, ended=now)
        case _:
            assert_never(event)
