"""The OpenAPI 3.1 description of a process, made from the contracts. Never written by hand.

Format: https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.contracts.answers import Accepted, Outcome
from penstock.contracts.envelope import messages, type_of
from penstock.contracts.errors import Problem
from penstock.infra.queries import Endpoint

REF = "#/components/schemas/{name}"
_IN_PATH = re.compile(r"{(\w+)}")
Json = dict[str, Any]


def document(services: Sequence[tuple[str, Sequence[Endpoint]]]) -> Json:
    """The description of these services' queries and commands."""
    endpoints = [(name, e, e.path) for name, found in services for e in found if e.path is not None]
    commands = [s for name, _ in services for s in messages(name, "command").values()]
    types: list[Any] = [Outcome, Accepted, Problem, *commands]
    types += [t for _, e, _ in endpoints for t in (e.params, e.returns)]
    schemas, components = msgspec.json.schema_components(types, ref_template=REF)
    schema_of = dict(zip(map(str, types), schemas, strict=True))
    paths: dict[str, Json] = {}
    for name, endpoint, path in endpoints:
        operation = _operation(name, endpoint, path, components, schema_of)
        paths.setdefault(path, {})[endpoint.method.lower()] = operation
    for struct in commands:
        kind = type_of(struct)
        paths[f"/commands/{kind.service}/{kind.name}"] = {"post": _command(struct, schema_of)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Penstock", "version": "1"},
        "paths": paths,
        "components": {"schemas": components},
    }


def _operation(
    service: str, endpoint: Endpoint, path: str, components: Json, schema_of: Json
) -> Json:
    operation: Json = {
        "operationId": f"{service}_{endpoint.name}",
        "summary": endpoint.summary or endpoint.name,
        "tags": [service],
        "responses": _responses(_answer(schema_of[str(endpoint.returns)])),
    }
    if endpoint.method == "POST" and not _IN_PATH.search(path):
        body = {"schema": schema_of[str(endpoint.params)]}
        operation["requestBody"] = {"required": True, "content": {"application/json": body}}
    else:
        fields = components[endpoint.params.__name__]
        operation["parameters"] = _parameters(path, fields)
    return operation


def _parameters(path: str, schema: Json) -> list[Json]:
    in_path = set(_IN_PATH.findall(path))
    return [
        {
            "name": name,
            "in": "path" if name in in_path else "query",
            "required": name in in_path or name in schema.get("required", []),
            "schema": field,
        }
        for name, field in schema["properties"].items()
    ]


def _command(struct: type[msgspec.Struct], schema_of: Json) -> Json:
    kind = type_of(struct)
    text = {"type": "string"}
    body = {
        "type": "object",
        "required": ["id"],
        "properties": {
            "id": {**text, "description": "the aggregate that the command is for"},
            "data": schema_of[str(struct)],
            "command_id": {**text, "description": "the same id again has no second effect"},
            "correlation_id": text,
            "actor": text,
        },
    }
    accepted = {"description": "Stored", "content": _content(schema_of[str(Accepted)])}
    wait = {
        "name": "wait",
        "in": "query",
        "schema": {"type": "number", "minimum": 0, "maximum": 30},
        "description": "seconds to wait for the outcome",
    }
    return {
        "operationId": f"{kind.service}_{kind.name}_command",
        "summary": (struct.__doc__ or kind.name).split("\n")[0],
        "tags": [kind.service],
        "parameters": [wait],
        "requestBody": {"required": True, "content": _content(body)},
        "responses": {**_responses(schema_of[str(Outcome)]), "202": accepted},
    }


def _answer(data: Json) -> Json:
    number = {"type": "integer"}
    return {
        "type": "object",
        "properties": {"sequence": number, "revision": number, "data": data},
    }


def _responses(schema: Json) -> Json:
    problem = {"schema": {"$ref": REF.format(name="Problem")}}
    return {
        "200": {"description": "OK", "content": _content(schema)},
        "default": {
            "description": "A problem (RFC 9457)",
            "content": {"application/problem+json": problem},
        },
    }


def _content(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}
