"""The OpenAPI 3.1 description of services, made from the contracts. Never written by hand.

Format: https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import msgspec

from penstock.contracts.answers import Accepted, Answer, Question
from penstock.contracts.envelope import newest
from penstock.contracts.errors import Problem
from penstock.contracts.lifecycle import Archiving
from penstock.infra.json_schema import carrying, described, json_schemas
from penstock.infra.openapi_commands import command_operation, content, outcome_type
from penstock.infra.openapi_system import SYSTEM
from penstock.infra.problem_responses import COMMAND, QUERY, problem_components, problems
from penstock.infra.queries import Endpoint
from penstock.infra.routes import Reply, Route

REF = "#/components/schemas/{name}"
VERSION = "3.1.0"
_IN_PATH = re.compile(r"{(\w+)}")
Json = dict[str, Any]


class Described(Protocol):
    """What a service shows of itself over HTTP: its queries, and what it answers beyond them."""

    name: str
    endpoints: list[Endpoint]
    routes: list[Route]


class _Dead(msgspec.Struct):
    """The part of a process that is no service's."""

    endpoints: list[Endpoint]
    name: str = "dead"
    routes: list[Route] = []


def document(
    services: Sequence[Described], *, title: str, process: Sequence[Endpoint] | None = None
) -> Json:
    """The description of these services, and of what every process answers, with its endpoints
    `process`, where they are given.
    """
    if process is not None:
        services = [*services, _Dead(list(process))]
    schemas = Schemas(services)
    statuses = {*QUERY, *COMMAND, *(p for s in services for r in s.routes for p in r.problems)}
    paths: dict[str, Json] = {}
    for path, method, operation in _operations(services, schemas):
        paths.setdefault(path, {})[method] = operation
    if process is not None:
        paths |= SYSTEM
    return {
        "openapi": VERSION,
        "info": {
            "title": title,
            "version": "1",
            "description": "Nothing here asks for credentials yet, which is why a process listens "
            "on the loopback only. Every refusal is a problem document (RFC 9457).",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "the process that serves this document"}],
        "security": [],
        "tags": [{"name": s.name} for s in services] + [{"name": "system"}] * (process is not None),
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "responses": problem_components(statuses, schemas.of(Problem)),
        },
    }


class Schemas:
    """The schemas of everything that some services say and are told."""

    def __init__(self, services: Sequence[Described]) -> None:
        types: list[Any] = [Problem, Accepted, Archiving, None]
        for service in services:
            commands = newest(service.name, "command").values()
            types += [*commands, *(outcome_type(struct, None) for struct in commands)]
            types += [e.returns for e in service.endpoints]
            types += [e.params for e in service.endpoints if _asks_by_body(e)]
        unique = {str(t): t for t in types}
        found, self.components = json_schemas(list(unique.values()), REF)
        self._of = dict(zip(unique, found, strict=True))

    def of(self, type: Any) -> Json:
        """The schema of a type."""
        return self._of[str(type)]


Operations = Iterator[tuple[str, str, Json]]


def _operations(services: Sequence[Described], schemas: Schemas) -> Operations:
    """Each path, method and operation."""
    for service in services:
        for endpoint in service.endpoints:
            if endpoint.path is not None:
                operation = _query(service.name, endpoint, schemas)
                yield endpoint.path, endpoint.method.lower(), operation
        for route in service.routes:
            yield route.path, "get", _route(service.name, route)
        state = next((e.returns for e in service.endpoints if e.name == "get"), None)
        for verb, struct in newest(service.name, "command").items():
            outcome = schemas.of(outcome_type(struct, state))
            operation = command_operation(struct, schemas.of(struct), outcome)
            yield f"/commands/{service.name}/{verb}", "post", operation


def _asks_by_body(endpoint: Endpoint) -> bool:
    return endpoint.method == "POST" and not _IN_PATH.search(endpoint.path or "")


def _query(service: str, endpoint: Endpoint, schemas: Schemas) -> Json:
    operation: Json = {
        "operationId": f"{service}_{endpoint.name}",
        "summary": endpoint.summary or endpoint.name,
        "description": _explained(endpoint.params),
        "tags": [service],
    }
    if _asks_by_body(endpoint):
        body = content(schemas.of(endpoint.params))
        operation["requestBody"] = {"required": True, "content": body}
    else:
        operation["parameters"] = _parameters(endpoint.path or "", endpoint.params)
    answer = {
        "description": "What the view says.",
        "headers": {
            "Penstock-Sequence": {
                "description": "the `sequence` of the answer",
                "schema": {"type": "integer"},
            }
        },
        "content": content(carrying(Answer, schemas.of(endpoint.returns))),
    }
    operation["responses"] = {"200": answer, **problems(QUERY)}
    return operation


def _explained(params: type[msgspec.Struct]) -> str:
    """What the parameters mean, with those that every question of a view has."""
    own = [described(params)] if params is not Question else []
    common = [described(Question)] if issubclass(params, Question) else []
    return "\n\n".join([*own, *common])


def _parameters(path: str, params: type[msgspec.Struct]) -> list[Json]:
    in_path = set(_IN_PATH.findall(path))
    _, components = json_schemas([params], REF)
    schema = components[params.__name__]
    return [
        {
            "name": name,
            "in": "path" if name in in_path else "query",
            "required": name in in_path or name in schema.get("required", []),
            "schema": _given(field),
        }
        for name, field in schema["properties"].items()
    ]


def _given(field: Json) -> Json:
    """A parameter's schema: what is left out is null, and nothing else can be."""
    if field.get("default", ...) is None:
        field = {key: value for key, value in field.items() if key != "default"}
    choices = [choice for choice in field.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) == 1:
        return {**{key: value for key, value in field.items() if key != "anyOf"}, **choices[0]}
    return field


def _route(service: str, route: Route) -> Json:
    text = {"type": "string"}
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": text}
        for name in _IN_PATH.findall(route.path)
    ]
    in_header = [
        {"name": name, "in": "header", "description": meaning, "schema": text}
        for name, meaning in route.headers.items()
    ]
    replies = {str(status): _reply(reply) for status, reply in route.replies.items()}
    return {
        "operationId": f"{service}_{route.name}",
        "summary": route.summary,
        "description": route.description,
        "tags": [service],
        "parameters": [*in_path, *in_header],
        "responses": {**replies, **problems(route.problems)},
    }


def _reply(reply: Reply) -> Json:
    described: Json = {"description": reply.meaning}
    if reply.headers:
        described["headers"] = {
            name: {"description": meaning, "schema": {"type": "string"}}
            for name, meaning in reply.headers.items()
        }
    if reply.media_type:
        described["content"] = {reply.media_type: {}}
    return described
