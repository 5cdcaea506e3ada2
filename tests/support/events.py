"""Events of progress for tests of whatever stores them: the same arguments, the same event."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from msgspec.structs import replace

from penstock.contracts.envelope import Envelope, type_of, wrap
from penstock.contracts.progress import ProgressUpdated


def event(id: str, version: int = 1, *, by: str = "c-0", text: str | None = None) -> Envelope:
    """The event `version` of the aggregate `id`, caused by the command `by`."""
    return wrap(
        ProgressUpdated(percent=version % 101, message=text),
        id=f"{by}:{version}",
        subject=id,
        time=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        correlationid=f"flow of {by}",
        causationid=by,
        version=version,
    )


def wrapped(data: msgspec.Struct, id: str, version: int, *, by: str) -> Envelope:
    """`data` as the event `version` of the aggregate `id`, caused by the command `by`."""
    return replace(event(id, version, by=by), type=str(type_of(type(data))), data=_raw(data))


def _raw(data: msgspec.Struct) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(data))
