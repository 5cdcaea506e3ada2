"""What the handlers of live workers take as payloads, and which jobs they would refuse.

From the table in memory alone: never any I/O. A name that no worker knows takes anything.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jsonschema_rs
import msgspec

from penstock.contracts.errors import InvalidMessage
from penstock.contracts.jobs import EnqueueJob
from penstock.jobs.workers import Workers

SCHEMAS = 2_000  # compiled ones that are kept
EVERY = 1.0  # seconds after which workers that fell silent count no more
# Where msgspec takes more than the schema says, or reads a pattern in another way.
_LOOSE = {"pattern", "format", "multipleOf", "uniqueItems", "propertyNames", "contentEncoding"}
_BY_NAME = {"properties", "$defs", "patternProperties"}
_VALUES = {"const", "enum", "default", "examples"}

_encode = msgspec.json.Encoder(order="deterministic").encode
Validator = jsonschema_rs.Draft202012Validator


class Handlers:
    """`refusal` costs a look into a table and a microsecond of the library's for each schema."""

    def __init__(self, workers: Workers, clock: Callable[[], float]) -> None:
        self._workers = workers
        self._clock = clock
        self._known: dict[str, tuple[Validator, ...]] = {}
        self._changes = -1
        self._until = 0.0

    def refusal(self, job: EnqueueJob) -> InvalidMessage | None:
        """Why no live worker would take the payload, if they know the name and none would."""
        if self._changes != self._workers.changes or self._clock() >= self._until:
            self._learn()
        validators = self._known.get(job.name, ())
        if not validators or any(one.is_valid(job.payload) for one in validators):
            return None
        return _refusal(job, validators[-1])

    def _learn(self) -> None:
        self._changes = self._workers.changes
        self._until = self._clock() + EVERY
        known: dict[str, tuple[Validator, ...]] = {}
        for name, handlers in self._workers.handlers().items():
            schemas = {None if one.payload is None else _encode(one.payload) for _, one in handlers}
            compiled = [None if one is None else _compiled(one) for one in schemas]
            validators = [one for one in compiled if one is not None]
            if len(validators) == len(compiled):  # else nobody knows what one of them takes
                known[name] = tuple(validators)
        self._known = known


@lru_cache(SCHEMAS)
def _compiled(schema: bytes) -> Validator | None:
    """None if it is none, or refers to another: nothing is fetched."""
    try:
        return Validator(_loose(msgspec.json.decode(schema)), offline=True)
    except (ValueError, jsonschema_rs.ReferencingError):
        return None


def _loose(schema: Any) -> Any:
    """The schema without what a worker might take all the same."""
    if isinstance(schema, list):
        return [_loose(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    # msgspec reads these from numbers, too.
    if schema.get("format") == "decimal":
        return {}
    return {
        key: {name: _loose(one) for name, one in value.items()}
        if key in _BY_NAME
        else value
        if key in _VALUES
        else _loose(value)
        for key, value in schema.items()
        if key not in _LOOSE
    }


def _refusal(job: EnqueueJob, validator: Validator) -> InvalidMessage:
    error = next(iter(validator.iter_errors(job.payload)))
    path = "$.payload" + "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.instance_path
    )
    if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Required):
        path += f".{error.kind.property}"
    return InvalidMessage(
        f"The payload of {job.name!r} is not valid at {path}: {error.message}. No worker takes it.",
        path=path,
    )
