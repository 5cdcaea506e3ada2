"""What a searchable document is: `decide` and `evolve`. Pure: time and ids arrive as data."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from penstock.contracts.envelope import Envelope
from penstock.contracts.errors import NotFound
from penstock.contracts.search import (
    DeleteDocument,
    DocumentDeleted,
    DocumentIndexed,
    DocumentState,
    IndexDocument,
)
from penstock.infra.deciding.decider import Context

FINAL = ("deleted",)


def finished(state: DocumentState) -> str | None:
    """Whether it is deleted, as the name of that state."""
    return "deleted" if state.deleted else None


def decide(
    state: DocumentState | None, command: msgspec.Struct, context: Context
) -> Sequence[msgspec.Struct]:
    """The events that `command` causes. Indexing what stands there already causes none.

    Raises NotFound for deleting what never was.
    """
    match command:
        case IndexDocument(content=content, title=title, metadata=metadata):
            wanted = DocumentIndexed(content=content, title=title, metadata=metadata)
            return [] if _stands(state, wanted) else [wanted]
        case DeleteDocument():
            if state is None:
                id = context.command.subject
                raise NotFound(f"There is no document {id!r} to delete.", id=id)
            return [] if state.deleted else [DocumentDeleted()]
        case _:
            raise TypeError(f"not a command of search: {type(command).__name__}")


def _stands(state: DocumentState | None, wanted: DocumentIndexed) -> bool:
    if state is None or state.deleted:
        return False
    present = (state.content, state.title, state.metadata)
    return present == (wanted.content, wanted.title, wanted.metadata)


def evolve(state: DocumentState | None, event: msgspec.Struct, envelope: Envelope) -> DocumentState:
    """The state after `event`."""
    match event:
        case DocumentIndexed(content=content, title=title, metadata=metadata):
            return DocumentState(
                id=envelope.subject,
                title=title,
                content=content,
                metadata=metadata,
                indexed=envelope.time,
            )
        case DocumentDeleted() if state is not None:
            return replace(state, title=None, content="", metadata={}, deleted=True)
        case _:
            raise ValueError(f"{envelope.type} does not follow from what came before it")
