"""Exports: its document, commands, events and states, version 1. Never any rendering."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

import msgspec

from penstock.contracts.answers import Question
from penstock.contracts.envelope import Time, command, event
from penstock.contracts.errors import InvalidMessage, TooLarge

SERVICE = "exports"
HISTORY = "history"  # the kind of a document that is the history <service>/<id>
DOCUMENT = "document:"  # what the aggregate ids of documents begin with, and of exports never do
MAX_DOCUMENT = 64 * 1024 * 1024  # bytes as JSON: it is rendered from memory
MAX_INLINE = 256 * 1024  # bytes as JSON, above which a document goes by way of the object store
State = Literal["pending", "processing", "completed", "failed"]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Kind = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern="^[^/]+$")]


class Segment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One passage of a document. `start` and `end` are seconds from the beginning of the media."""

    text: str
    start: float | None = None
    end: float | None = None
    speaker: str | None = None


class Document(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an export renders: a title and segments in reading order.

    `metadata` is the application's own; only formats with a place for it keep it (json).
    """

    title: str
    segments: tuple[Segment, ...]
    metadata: dict[str, Any] = {}


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What all messages here share. States, unlike messages, always show every field."""


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """A `Document` as JSON in the object store. `size` in bytes, `sha256` in hexadecimal."""

    size: Annotated[int, msgspec.Meta(ge=1, le=MAX_DOCUMENT)]
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]

    @property
    def object(self) -> str:
        """Its name there: the same content is kept once, and never changes under a reader."""
        return f"documents/{self.sha256}"


class ExportFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that an export made, in the object store as `object`.

    `size` in bytes, `sha256` in hexadecimal, `segments` is how many the document had. `filename`
    is safe to save under, on any system.
    """

    object: str
    size: int
    sha256: str
    segments: int
    media_type: str
    filename: str


@command(SERVICE, "put")
class PutDocument(Message, frozen=True, kw_only=True):
    """Hand in a document, or its new version. The aggregate is `document_key(kind, id)`."""

    document: Document


@command(SERVICE, "put_stored")
class PutStoredDocument(Message, frozen=True, kw_only=True):
    """The same, for a document too large for a message: it stands in the object store already."""

    content: Content


@command(SERVICE, "request")
class RequestExport(Message, frozen=True, kw_only=True):
    """Render the present version of a document to a file. The aggregate is the export's own id."""

    kind: Kind
    document: Name
    format: str


@event(SERVICE, "document_put")
class DocumentPut(Message, frozen=True, kw_only=True):
    """A version of a document was handed in. Its content is never in an event."""

    content: Content


@event(SERVICE, "requested")
class ExportRequested(Message, frozen=True, kw_only=True):
    """An export was asked for, of `content`: the document's `version`, put at `as_of`."""

    kind: str
    document: str
    format: str
    content: Content
    version: int
    as_of: Time


@event(SERVICE, "started")
class ExportStarted(Message, frozen=True, kw_only=True):
    """Rendering began, for the first time or once more after an interruption."""


@event(SERVICE, "completed")
class ExportCompleted(Message, frozen=True, kw_only=True):
    """The file is there."""

    file: ExportFile


@event(SERVICE, "failed")
class ExportFailed(Message, frozen=True, kw_only=True):
    """There will be no file, for the reason `error`."""

    error: str


class DocumentState(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="document"):
    """The present version of a document. `version` counts from 1; `id` is the application's own."""

    kind: str
    id: str
    content: Content
    version: int
    created: Time
    updated: Time


class ExportState(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="export"):
    """How far an export is. `file` is there once it is completed, `error` if it failed.

    The data are those of the document's `version`, as of `as_of`, whatever was put since.
    `attempts` counts how often rendering began.
    """

    id: str
    state: State = "pending"
    kind: str
    document: str
    format: str
    version: int
    as_of: Time
    attempts: int = 0
    file: ExportFile | None = None
    error: str | None = None
    created: Time
    updated: Time
    ended: Time | None = None

    @property
    def is_over(self) -> bool:
        """True once nothing more will happen."""
        return self.state in ("completed", "failed")


class FormatInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A format to export to. `timed`: every segment needs a start and an end."""

    name: str
    media_type: str
    suffix: str
    timed: bool


class ListExports(Question, frozen=True, kw_only=True, omit_defaults=True):
    """Exports by state or document, newest first. `before` is the id of the last one seen."""

    state: State | None = None
    kind: str | None = None
    document: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    before: str | None = None


class ListDocuments(Question, frozen=True, kw_only=True, omit_defaults=True):
    """Documents, last put first. `before` is the `document_key` of the last one seen."""

    kind: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    before: str | None = None


def encode_document(document: Document) -> tuple[bytes, Content]:
    """The document as JSON, and what it is stored as. Raises InvalidMessage or TooLarge."""
    try:
        body = msgspec.json.encode(document)
    except (TypeError, ValueError) as error:
        raise InvalidMessage(f"The document cannot be written as JSON: {error}.") from error
    if len(body) > MAX_DOCUMENT:
        raise TooLarge(
            f"The document has {len(body)} bytes as JSON and {MAX_DOCUMENT} is the most; split it."
        )
    return body, Content(size=len(body), sha256=hashlib.sha256(body).hexdigest())


def document_key(kind: str, id: str) -> str:
    """The aggregate id of a document. Raises InvalidMessage for a kind with a slash in it."""
    if not kind or "/" in kind or not id:
        raise InvalidMessage(
            f"The document {kind!r}, {id!r} has no usable name: give a kind without a slash, and an"
            " id."
        )
    return f"{DOCUMENT}{kind}/{id}"


def document_named(key: str) -> tuple[str, str]:
    """Kind and id, from a document's aggregate id. Raises InvalidMessage for any other."""
    kind, slash, id = key.removeprefix(DOCUMENT).partition("/")
    if not (key.startswith(DOCUMENT) and kind and slash and id):
        raise InvalidMessage(f"A document is put to {DOCUMENT}<kind>/<id>, not to {key!r}.")
    return kind, id
