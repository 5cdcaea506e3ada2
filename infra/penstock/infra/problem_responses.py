"""The errors of the contracts as HTTP responses, by status: problem details (RFC 9457)."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from penstock.contracts import errors
from penstock.contracts.errors import TYPE_PREFIX, PenstockError

Json = dict[str, Any]
QUERY = (404, 410, 422, 500, 503, 504)
COMMAND = (404, 409, 410, 413, 422, 500, 503, 504)
_SCHEMA = "#/components/schemas/{name}"


def problems(statuses: Iterable[int]) -> Json:
    """The `responses` of an operation that can end with these statuses."""
    return {
        **{str(status): {"$ref": f"#/components/responses/{_name(status)}"} for status in statuses},
        "default": {"$ref": "#/components/responses/Problem"},
    }


def problem_components(statuses: Iterable[int], schema: Json) -> Json:
    """The `components.responses` that `problems` refers to; `schema` is that of `Problem`."""
    by_status = _errors_by_status()
    found = {"Problem": _response("Any other problem.", schema)}
    for status in sorted(set(statuses)):
        known = by_status[status]
        meaning = "\n".join(f"- `{TYPE_PREFIX}{e.code}`: {_meaning(e)}" for e in known)
        found[_name(status)] = _response(meaning or f"{HTTPStatus(status).phrase}.", schema)
    return found


def _name(status: int) -> str:
    return f"Problem{status}"


def _response(meaning: str, schema: Json) -> Json:
    return {
        "description": meaning,
        "content": {"application/problem+json": {"schema": schema}},
    }


def _errors_by_status() -> defaultdict[int, list[type[PenstockError]]]:
    found: defaultdict[int, list[type[PenstockError]]] = defaultdict(list)
    for _, error in inspect.getmembers(errors, inspect.isclass):
        if issubclass(error, PenstockError) and error is not errors.StartupError:
            found[error.status].append(error)
    return found


def _meaning(error: type[PenstockError]) -> str:
    if error is PenstockError:
        return "Something unforeseen; the log of the service has more."
    return " ".join(inspect.cleandoc(error.__doc__ or "").split())
