"""The history of any aggregate of any service as a document to export. Never keeps one.

`kind` is "history" and the document `<service>/<id>`; asked of that service over NATS, which also
tells what is in its archive.
"""

from __future__ import annotations

import msgspec

from penstock.contracts.answers import HistoryEntry, HistoryOf
from penstock.contracts.errors import InvalidMessage
from penstock.contracts.exports import HISTORY, Document, DocumentState, Segment, encode_document
from penstock.contracts.subjects import SERVICES
from penstock.infra.objects import Objects
from penstock.infra.sender import Sender


class Histories:
    """Makes documents of histories, their content in the object store."""

    def __init__(self, objects: Objects, sender: Sender) -> None:
        self._objects = objects
        self._sender = sender

    async def document(self, name: str) -> DocumentState:
        """The history `<service>/<id>` as it is now.

        Raises InvalidMessage for a name of another form, NotFound, or Unavailable if that service
        does not run.
        """
        service, slash, id = name.partition("/")
        if service not in SERVICES or not slash or not id:
            raise InvalidMessage(
                f"A history is exported by <service>/<id>, such as jobs/42, not by {name!r}; the "
                f"services are {', '.join(SERVICES)}.",
                path="$.data.document",
            )
        entries, _ = await self._sender.ask(
            service, "history", HistoryOf(id=id), list[HistoryEntry]
        )
        body, content = encode_document(_document(name, entries))
        await self._objects.put_once(content.object, body)
        return DocumentState(
            kind=HISTORY,
            id=name,
            content=content,
            version=entries[-1].version,
            created=entries[0].time,
            updated=entries[-1].time,
        )


def _document(name: str, entries: list[HistoryEntry]) -> Document:
    return Document(
        title=f"History of {name}",
        segments=tuple(Segment(text=_told(entry), speaker=entry.actor) for entry in entries),
        metadata={"events": msgspec.to_builtins(entries)},
    )


def _told(entry: HistoryEntry) -> str:
    data = msgspec.json.encode(entry.data).decode()
    return f"{entry.time.isoformat()} #{entry.version} {entry.type} {data}"
