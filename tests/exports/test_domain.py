"""Given events, when a command comes, then these events: documents and exports."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from penstock.contracts.envelope import wrap
from penstock.contracts.errors import InvalidMessage, NotFound, PenstockError, Refused, TooLarge
from penstock.contracts.exports import (
    Content,
    Document,
    DocumentPut,
    DocumentState,
    ExportCompleted,
    ExportFailed,
    ExportFile,
    ExportRequested,
    ExportStarted,
    ExportState,
    PutDocument,
    PutStoredDocument,
    RequestExport,
    document_key,
    document_named,
    encode_document,
)
from penstock.exports.domain import State, decide, evolve
from penstock.infra.deciding.decider import Context

START = datetime(2026, 1, 1, tzinfo=UTC)
ONE = Content(size=1, sha256="1" * 64)
TWO = Content(size=2, sha256="2" * 64)
KEY = "document:talk/a/b"
TALK = DocumentState(
    kind="talk", id="a/b", content=TWO, version=2, created=START, updated=START + timedelta(1)
)
REQUEST = RequestExport(kind="talk", document="a/b", format="srt")
REQUESTED = ExportRequested(
    kind="talk", document="a/b", format="srt", content=TWO, version=2, as_of=TALK.updated
)
FILE = ExportFile(
    object="exports/e", size=3, sha256="3" * 64, segments=1, media_type="m", filename="f"
)


def given(id: str, *events: msgspec.Struct) -> State | None:
    state: State | None = None
    for version, data in enumerate(events, 1):
        time = START + timedelta(seconds=version)
        envelope = wrap(
            data, id=str(version), subject=id, time=time, correlationid="f", version=version
        )
        state = evolve(state, data, envelope)
    return state


def when(
    id: str, state: State | None, command: msgspec.Struct, facts: Any = None
) -> Sequence[msgspec.Struct]:
    envelope = wrap(command, id="c", subject=id, time=START, correlationid="f")
    return decide(state, command, Context(START, envelope, facts))


def export_after(*events: msgspec.Struct) -> ExportState:
    state = given("e", *events)
    assert isinstance(state, ExportState)
    return state


@pytest.mark.parametrize(
    "command",
    [PutDocument(document=Document(title="", segments=())), PutStoredDocument(content=ONE)],
)
def test_putting_names_the_content_that_was_stored(command: msgspec.Struct) -> None:
    assert when(KEY, None, command, ONE) == [DocumentPut(content=ONE)]
    one = given(KEY, DocumentPut(content=ONE))
    assert when(KEY, one, command, TWO) == [DocumentPut(content=TWO)]
    assert when(KEY, one, command, ONE) == []


def test_a_document_counts_its_versions() -> None:
    state = given(KEY, DocumentPut(content=ONE), DocumentPut(content=TWO))
    assert state == DocumentState(
        kind="talk",
        id="a/b",
        content=TWO,
        version=2,
        created=START + timedelta(seconds=1),
        updated=START + timedelta(seconds=2),
    )


def test_an_export_is_of_the_present_version() -> None:
    assert when("e", None, REQUEST, TALK) == [REQUESTED]


def test_the_same_request_again_is_nothing_new_whatever_was_put_since() -> None:
    for events in ([REQUESTED], [REQUESTED, ExportFailed(error="no")]):
        newer = msgspec.structs.replace(TALK, version=3, content=ONE)
        assert when("e", given("e", *events), REQUEST, newer) == []
        assert when("e", given("e", *events), REQUEST, None) == []


@pytest.mark.parametrize(
    ("id", "state", "command", "facts", "error", "says"),
    [
        ("e", None, REQUEST, None, NotFound, "no talk 'a/b' to export; put it first"),
        ("document:x/y", None, REQUEST, TALK, InvalidMessage, "cannot be the id"),
        ("formats", None, REQUEST, TALK, InvalidMessage, "cannot be the id"),
        ("documents", None, REQUEST, TALK, InvalidMessage, "cannot be the id"),
        ("e", None, msgspec.structs.replace(REQUEST, format="x"), TALK, InvalidMessage,
         "no export format 'x'; choose one of txt"),
        ("e", given("e", REQUESTED), msgspec.structs.replace(REQUEST, format="txt"), TALK, Refused,
         "is of talk 'a/b' to srt; use another id"),
        ("e", None, PutStoredDocument(content=ONE), ONE, InvalidMessage, "put to document:<kind>"),
    ],
)  # fmt: skip
def test_what_is_not_possible_is_refused(
    id: str,
    state: State | None,
    command: msgspec.Struct,
    facts: Any,
    error: type[PenstockError],
    says: str,
) -> None:
    with pytest.raises(error, match=says):
        when(id, state, command, facts)


def test_an_export_goes_its_way() -> None:
    state = export_after(REQUESTED)
    assert (state.state, state.attempts, state.is_over) == ("pending", 0, False)
    state = export_after(REQUESTED, ExportStarted(), ExportStarted())
    assert (state.state, state.attempts, state.is_over) == ("processing", 2, False)
    done = export_after(REQUESTED, ExportStarted(), ExportCompleted(file=FILE))
    assert (done.state, done.file, done.is_over) == ("completed", FILE, True)
    assert done.ended == done.updated == START + timedelta(seconds=3)
    failed = export_after(REQUESTED, ExportFailed(error="no"))
    assert (failed.state, failed.error, failed.file, failed.is_over) == ("failed", "no", None, True)


def test_an_outcome_without_a_request_is_not_folded() -> None:
    with pytest.raises(ValueError, match="before any request"):
        given("e", ExportStarted())


@pytest.mark.parametrize(("kind", "id"), [("talk", "1"), ("talk", "a/b:c"), ("ü", " ")])
def test_a_document_key_tells_kind_and_id(kind: str, id: str) -> None:
    assert document_named(document_key(kind, id)) == (kind, id)


@pytest.mark.parametrize(("kind", "id"), [("", "1"), ("a/b", "1"), ("a", "")])
def test_a_document_needs_a_usable_name(kind: str, id: str) -> None:
    with pytest.raises(InvalidMessage, match="no usable name"):
        document_key(kind, id)


@pytest.mark.parametrize("key", ["e", "document:", "document:a", "document:/a", "document:a/"])
def test_another_id_is_no_documents(key: str) -> None:
    with pytest.raises(InvalidMessage, match="put to document:<kind>/<id>"):
        document_named(key)


def test_a_document_that_json_cannot_hold_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="cannot be written as JSON"):
        encode_document(Document(title="\ud800", segments=()))
    with pytest.raises(InvalidMessage, match="cannot be written as JSON"):
        encode_document(Document(title="", segments=(), metadata={"a": object()}))
    with pytest.raises(TooLarge, match="split it"):
        encode_document(Document(title="x" * 2**26, segments=()))
