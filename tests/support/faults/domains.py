"""Each service's own pure functions, for judging what it did. Never anything that runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from penstock.cache import domain as cache
from penstock.contracts.envelope import Envelope, type_of, unwrap, wrap
from penstock.contracts.errors import PenstockError, Problem
from penstock.contracts.exports import Content, DocumentState, PutDocument, encode_document
from penstock.exports import domain as exports
from penstock.infra.deciding.decider import Context
from penstock.infra.event_log import Recorded
from penstock.jobs import domain as jobs
from penstock.notifications import domain as notifications
from penstock.progress import domain as progress
from penstock.search import domain as search

_DOMAINS: dict[str, Any] = {
    "cache": cache,
    "exports": exports,
    "jobs": jobs,
    "notifications": notifications,
    "progress": progress,
    "search": search,
}
_NOW = datetime(2026, 1, 1, tzinfo=UTC)


def evolve_of(service: str) -> Callable[[Any, msgspec.Struct, Envelope], Any]:
    return _DOMAINS[service].evolve  # type: ignore[no-any-return]


def states(service: str, records: Sequence[Recorded]) -> list[Any]:
    """The state of one aggregate before its first event, and after each."""
    evolve = evolve_of(service)
    found: list[Any] = [None]
    for record in records:
        found.append(evolve(found[-1], unwrap(record.event), record.event))
    return found


def decided(
    service: str, state: Any, aggregate: str, command: msgspec.Struct, id: str
) -> list[str] | Problem:
    """The types of the events that the command causes in this state, or why it is refused."""
    envelope = wrap(command, id=id, subject=aggregate, time=_NOW, correlationid=id)
    context = Context(_NOW, envelope, _facts(command))
    try:
        events = _DOMAINS[service].decide(state, command, context)
    except PenstockError as error:
        return error.problem()
    return [str(type_of(type(event))) for event in events]


def _facts(command: msgspec.Struct) -> Content | DocumentState:
    """What exports look up beyond the aggregate. The clients export what they have put."""
    if isinstance(command, PutDocument):
        return encode_document(command.document)[1]
    content = Content(size=1, sha256="0" * 64)
    return DocumentState(
        kind="any", id="any", content=content, version=1, created=_NOW, updated=_NOW
    )
