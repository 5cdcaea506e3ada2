"""The documents' content, which is in the object store before any event names it. Never decides.

Events hold no content: histories stay small, and what a text said can be erased.
"""

from __future__ import annotations

import msgspec

from penstock.contracts.envelope import Envelope, invalid
from penstock.contracts.errors import InvalidMessage, NotFound
from penstock.contracts.exports import (
    HISTORY,
    Content,
    Document,
    DocumentState,
    PutDocument,
    PutStoredDocument,
    RequestExport,
    document_key,
    encode_document,
)
from penstock.exports.domain import State
from penstock.exports.histories import Histories
from penstock.infra.deciding.decider import Load
from penstock.infra.objects import Objects

_decode = msgspec.json.Decoder(Document).decode


class Documents:
    """Stores and reads what documents say."""

    def __init__(self, objects: Objects, histories: Histories) -> None:
        self._objects = objects
        self._histories = histories

    async def look_up(
        self, command: msgspec.Struct, load: Load[State], _: Envelope
    ) -> Content | DocumentState | None:
        """The facts that `decide` needs for `command`; see there.

        Raises NotFound or InvalidMessage for content that is not in the object store as said.
        """
        match command:
            case PutDocument():
                body, content = encode_document(command.document)
                await self._objects.put_once(content.object, body)
                return content
            case PutStoredDocument():
                await self._require(command.content)
                return command.content
            case RequestExport(kind=kind) if kind == HISTORY:
                return await self._histories.document(command.document)
            case RequestExport():
                found = await load(document_key(command.kind, command.document))
                return found.state if isinstance(found.state, DocumentState) else None
            case _:
                raise TypeError(f"not a command of exports: {type(command).__name__}")

    async def read(self, content: Content) -> Document:
        """The document. Raises InvalidMessage if it is none, NotFound, Damaged or Unavailable."""
        try:
            return _decode(await self._objects.get(content.object))
        except msgspec.DecodeError as error:
            raise invalid(error, "The document") from error

    async def _require(self, content: Content) -> None:
        try:
            stored = await self._objects.info(content.object)
        except NotFound as error:
            raise NotFound(
                f"The object store has no {content.object!r}; store the document there first."
            ) from error
        if (stored.size, stored.sha256) != (content.size, content.sha256):
            raise InvalidMessage(
                f"The object {content.object!r} does not have the size and SHA-256 of the document;"
                " store it again.",
                path="$.data.content",
            )
