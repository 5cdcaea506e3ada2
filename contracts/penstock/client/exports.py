"""`ps.exports`: hand documents in, have them rendered to files, fetch the files. Never renders."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from penstock.client.download import save
from penstock.client.session import Session, state_of
from penstock.contracts import errors
from penstock.contracts.answers import HistoryEntry, Question
from penstock.contracts.exports import (
    MAX_INLINE,
    SERVICE,
    Document,
    DocumentState,
    ExportFile,
    ExportState,
    FormatInfo,
    ListDocuments,
    ListExports,
    PutDocument,
    PutStoredDocument,
    RequestExport,
    State,
    document_key,
    encode_document,
)
from penstock.infra.objects import Damaged, Objects, StoredObject


class Exports:
    """Documents of the application, by a kind and an id of its own, and their exports."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._objects = Objects(session.bus)

    async def put(
        self, kind: str, id: str, document: Document, *, command_id: str | None = None
    ) -> DocumentState:
        """Hand in a document, or its new version; the same content again changes nothing.

        A document above 256 KiB goes by way of the object store. Raises InvalidMessage, or TooLarge
        above 64 MiB, as JSON.
        """
        body, content = encode_document(document)
        command: msgspec.Struct = PutDocument(document=document)
        if content.size > MAX_INLINE:
            await self._objects.put_once(content.object, body)
            command = PutStoredDocument(content=content)
        outcome = await self._session.command(
            command, id=document_key(kind, id), command_id=command_id
        )
        return state_of(outcome, DocumentState)

    async def export(
        self,
        kind: str,
        document: str,
        format: str,
        *,
        async_mode: bool = True,
        timeout: float = 60.0,
        id: str | None = None,
        command_id: str | None = None,
    ) -> ExportState:
        """Have the present version of a document rendered to `format` (see `formats`).

        Returns at once; with `async_mode=False` once it is completed, within `timeout` seconds.
        The same `id`, or else the same `command_id`, is one export, however often it is asked for.
        Raises NotFound for an unknown document, InvalidMessage for an unknown format, Refused for
        an `id` that another export has; and when it waits ExportFailed, or Timeout: the export
        then goes on.
        """
        id = id or command_id or uuid.uuid4().hex
        outcome = await self._session.command(
            RequestExport(kind=kind, document=document, format=format),
            id=id,
            command_id=command_id,
        )
        if async_mode:
            return state_of(outcome, ExportState)
        return await self._ended(id, timeout)

    async def get(self, id: str, *, at: str | int | None = None) -> ExportState:
        """Its state now, or as it was `at` a sequence or time. Raises NotFound."""
        return await self._session.get(SERVICE, id, ExportState, at=at)

    async def history(self, id: str) -> list[HistoryEntry]:
        """Every event: what, who, why, when. Raises NotFound."""
        return await self._session.history(SERVICE, id)

    async def watch(self, id: str) -> AsyncIterator[ExportState]:
        """The present state and each newer one, to the end of the export.

        Waits for an export that is not there yet, and through restarts of the service.
        """
        async for state in self._session.watch(SERVICE, id, ExportState):
            yield state
            if state.is_over:
                return

    async def download(self, id: str, path: str | Path) -> Path:
        """Save the file of a completed export at `path`, or under its own name in a directory.

        The file appears whole and checked, on disk, or not at all; what was at `path` is replaced.
        Returns where it is. Raises Refused while the export goes on, ExportFailed, NotFound,
        Damaged, Unavailable, or OSError.
        """
        file, stored = await self._file(id)
        target = Path(path)
        if await asyncio.to_thread(target.is_dir):
            target /= Path(file.filename).name
        await save(self._objects.read(stored), target)
        return target

    async def read(self, id: str) -> bytes:
        """The file of a completed export, in memory. Raises as `download` does."""
        _, stored = await self._file(id)
        return b"".join([piece async for piece in self._objects.read(stored)])

    async def documents(
        self, *, kind: str | None = None, limit: int = 100, before: DocumentState | None = None
    ) -> list[DocumentState]:
        """Documents, last put first; `before` is the last one of the page before."""
        key = document_key(before.kind, before.id) if before else None
        question = ListDocuments(kind=kind, limit=limit, before=key)
        found, _ = await self._session.ask(SERVICE, "documents", question, list[DocumentState])
        return found

    async def formats(self) -> list[FormatInfo]:
        """The formats to export to."""
        found, _ = await self._session.ask(SERVICE, "formats", Question(), list[FormatInfo])
        return found

    async def list(
        self,
        *,
        state: State | None = None,
        kind: str | None = None,
        document: str | None = None,
        limit: int = 100,
        before: str | None = None,
    ) -> list[ExportState]:
        """Exports, newest first, of one document (`kind`, `document`) or all.

        `before` is the id of the last one of the page before.
        """
        question = ListExports(
            state=state, kind=kind, document=document, limit=limit, before=before
        )
        found, _ = await self._session.ask(SERVICE, "list", question, list[ExportState])
        return found

    async def _ended(self, id: str, timeout: float) -> ExportState:
        try:
            async with asyncio.timeout(timeout):
                async for state in self.watch(id):
                    if state.error is not None:
                        raise errors.ExportFailed(state.error, id=id)
                    if state.is_over:
                        return state
        except TimeoutError:
            pass
        raise errors.Timeout(
            f"The export {id!r} goes on, but did not end within {timeout:g} s; watch it, or "
            "wait longer.",
            id=id,
        )

    async def _file(self, id: str) -> tuple[ExportFile, StoredObject]:
        state = await self.get(id)
        if state.error is not None:
            raise errors.ExportFailed(state.error, id=id)
        if state.file is None:
            raise errors.Refused(
                f"The export {id!r} is {state.state}; its file comes when it is completed.",
                id=id,
            )
        stored = await self._objects.info(state.file.object)
        if (stored.size, stored.sha256) != (state.file.size, state.file.sha256):
            raise Damaged(
                f"The file of export {id!r} is not the one that was made; export it again.",
                id=id,
            )
        return state.file, stored
