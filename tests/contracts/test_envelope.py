"""The envelope, held against an independent reader of CloudEvents."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.envelope import (
    CONTENT_TYPE,
    Envelope,
    decode,
    encode,
    messages,
    type_of,
    unwrap,
    wrap,
)
from penstock.contracts.errors import InvalidMessage
from penstock.contracts.progress import CreateProgress, ProgressUpdated, UpdateProgress
from penstock.contracts.registry import Kind
from penstock.contracts.subjects import SERVICES

NOW = datetime(2026, 1, 31, 9, 30, 0, 125000, UTC)


def command(**more: Any) -> Envelope:
    data = CreateProgress(stages=("a", "b"), metadata={"n": 1})
    return wrap(data, id="c-1", subject="file/1", time=NOW, correlationid="flow-1", **more)


def read_independently(body: bytes) -> CloudEvent:
    message = HTTPMessage({"content-type": CONTENT_TYPE}, body)
    event = from_structured_event(message)
    assert isinstance(event, CloudEvent)
    return event


def test_an_independent_reader_understands_every_attribute() -> None:
    cause = command(actor="ada")
    event = wrap(
        ProgressUpdated(percent=40.0),
        id="c-1:1",
        subject="file/1",
        time=NOW,
        correlationid="flow-1",
        cause=cause,
        actor="ada",
        version=2,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    read = read_independently(encode(event))
    assert read.get_specversion() == "1.0"
    assert (read.get_id(), read.get_subject()) == ("c-1:1", "file/1")
    assert (read.get_source(), read.get_type()) == ("/penstock/progress", str(event.type))
    assert read.get_time() == NOW
    assert read.get_data() == {"percent": 40.0}
    assert read.get_extension("correlationid") == "flow-1"
    assert read.get_extension("causationid") == "c-1"
    assert read.get_extension("version") == 2
    assert str(read.get_extension("traceparent")).startswith("00-0af7")


def test_what_was_written_is_read_again() -> None:
    envelope = command()
    assert decode(encode(envelope)) == envelope
    assert unwrap(envelope) == CreateProgress(stages=("a", "b"), metadata={"n": 1})


def test_unknown_fields_are_ignored_in_envelope_and_data() -> None:
    body = msgspec.json.decode(encode(command()))
    body["novelty"] = 1
    body["data"]["colour"] = "blue"
    assert unwrap(decode(msgspec.json.encode(body))) == unwrap(command())


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"specversion": "0.3"}, "$.specversion"),
        ({"id": None}, "$.id"),
        ({"time": "yesterday"}, "$.time"),
        ({"version": "one"}, "$.version"),
    ],
)
def test_a_wrong_attribute_is_refused_with_its_path(change: dict[str, object], path: str) -> None:
    body = msgspec.json.decode(encode(command())) | change
    with pytest.raises(InvalidMessage) as refused:
        decode(msgspec.json.encode(body))
    assert refused.value.fields["path"] == path
    assert path in str(refused.value)


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({}, "$.data.percent"),
        ({"percent": "40"}, "$.data.percent"),
        ({"percent": 101}, "$.data.percent"),
        ({"percent": 1, "stage": ""}, "$.data.stage"),
    ],
)
def test_wrong_or_missing_data_are_refused_with_their_path(
    data: dict[str, object], path: str
) -> None:
    envelope = msgspec.structs.replace(
        command(), type=str(type_of(UpdateProgress)), data=msgspec.Raw(msgspec.json.encode(data))
    )
    with pytest.raises(InvalidMessage) as refused:
        unwrap(envelope)
    assert refused.value.fields["path"] == path


def test_a_type_that_nobody_declared_is_refused() -> None:
    with pytest.raises(InvalidMessage, match=r"penstock\.progress\.vanish\.v1"):
        unwrap(msgspec.structs.replace(command(), type="penstock.progress.vanish.v1"))


@given(st.binary(max_size=200))
def test_no_bytes_at_all_break_the_reader(body: bytes) -> None:
    try:
        decode(body)
    except InvalidMessage as error:
        assert error.fields["path"].startswith("$")


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_commands_and_events_of_version_one(service: str) -> None:
    __import__(f"penstock.contracts.{service}")
    kinds: tuple[Kind, ...] = ("command", "event")
    for kind in kinds:
        found = messages(service, kind)
        assert found
        for name, struct in found.items():
            assert name.startswith(f"penstock.{service}.")
            assert struct.__struct_config__.frozen
            assert struct.__doc__ and not struct.__doc__.startswith(struct.__name__)
