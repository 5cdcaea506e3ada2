"""What is erased with a document or an export beyond its events: content, files, and the exports
made of a document. Never decides what is erased.

An export is erased by a command of its own, which outlives whoever sent it: once its tombstone is
folded, the view no longer tells that it was made of the document.
"""

from __future__ import annotations

from collections.abc import Sequence

from penstock.contracts.envelope import Envelope, unwrap
from penstock.contracts.exports import (
    DOCUMENT,
    HISTORY,
    Content,
    DocumentPut,
    ExportCompleted,
    ExportRequested,
    document_named,
)
from penstock.contracts.lifecycle import ERASE, Erase
from penstock.exports.domain import State
from penstock.exports.views import exports_of, has_content
from penstock.infra.event_log import Recorded
from penstock.infra.objects import Objects
from penstock.infra.sender import Cause, Sender
from penstock.infra.service import Service


class Removal:
    """Removes what the object store and other aggregates hold."""

    def __init__(self, objects: Objects, service: Service[State]) -> None:
        self._objects = objects
        self._service = service
        self._sender = Sender(service.bus)

    async def remove(self, command: Envelope, events: Sequence[Recorded]) -> None:
        """See `Eraser`. Raises Timeout while the view does not know of everything."""
        await self._service.projector.reach_end()
        if command.subject.startswith(DOCUMENT):
            await self._exports(command)
        for event in (unwrap(record.event) for record in events):
            match event:
                case DocumentPut(content=content):
                    await self._content(content, command.subject)
                case ExportRequested(kind=kind, content=content) if kind == HISTORY:
                    await self._content(content, command.subject)
                case ExportCompleted(file=file):
                    await self._objects.remove(file.object)

    async def _exports(self, command: Envelope) -> None:
        """Have every export of the document erased, soon."""
        kind, document = document_named(command.subject)
        erase: Erase = unwrap(command)
        _, ids = await self._service.model.read(exports_of, kind, document)
        cause = Cause(correlationid=command.correlationid, event=command, actor=command.actor)
        for id in ids:
            each = ERASE[self._service.name](reason=erase.reason)
            await self._sender.post(each, id=id, command_id=f"{command.id}:{id}", cause=cause)

    async def _content(self, content: Content, key: str) -> None:
        """The same content is kept once for all documents that have it."""
        _, needed = await self._service.model.read(has_content, content.sha256, beside=key)
        if not needed:
            await self._objects.remove(content.object)
