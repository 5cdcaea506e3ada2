"""`ps.search`: make documents findable, and find them. Never ranks anything itself."""

from __future__ import annotations

import msgspec

from penstock.client.session import Session, state_of
from penstock.contracts.answers import HistoryEntry
from penstock.contracts.search import (
    SERVICE,
    DeleteDocument,
    DocumentState,
    IndexDocument,
    SearchDocument,
    SearchHits,
    SearchQuery,
)


class Search:
    """Documents found by words and by meaning."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def index(
        self, document: SearchDocument, *, command_id: str | None = None
    ) -> DocumentState:
        """Make `document` findable, in place of the one by its id. The same again changes nothing.

        This client's next search finds it. Raises InvalidMessage for a content of more than a
        million characters.
        """
        command = IndexDocument(
            content=document.content, title=document.title, metadata=document.metadata
        )
        return await self._do(document.id, command, command_id)

    async def delete(self, id: str, *, command_id: str | None = None) -> None:
        """Make a document unfindable. Raises NotFound for one that never was."""
        await self._do(id, DeleteDocument(), command_id)

    async def search(self, query: SearchQuery) -> SearchHits:
        """The documents that fit, best first. Raises InvalidMessage with the wrong field's path."""
        hits, _ = await self._session.ask(SERVICE, "search", query, SearchHits)
        return hits

    async def get(self, id: str, *, at: str | int | None = None) -> DocumentState:
        """A document now, or as it was `at` a sequence or time. Raises NotFound."""
        return await self._session.get(SERVICE, id, DocumentState, at=at)

    async def history(self, id: str) -> list[HistoryEntry]:
        """Every event: what, who, why, when. Raises NotFound."""
        return await self._session.history(SERVICE, id)

    async def _do(self, id: str, command: msgspec.Struct, command_id: str | None) -> DocumentState:
        outcome = await self._session.command(command, id=id, command_id=command_id)
        return state_of(outcome, DocumentState)
