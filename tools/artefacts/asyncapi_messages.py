"""The messages and schemas of the AsyncAPI document. Never any channel.

AsyncAPI's own schemas are JSON Schema draft 07 and a little more, so that what differs from
2020-12 is said in its words here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.contracts import push
from penstock.contracts.answers import Answer, Outcome
from penstock.contracts.control import Report
from penstock.contracts.dead import DeadLetter
from penstock.contracts.envelope import CONTENT_TYPE, Envelope
from penstock.contracts.errors import Problem
from penstock.contracts.lifecycle import Archiving
from penstock.contracts.registry import MESSAGES
from penstock.contracts.subjects import MSG_ID, REPLY
from penstock.infra.json_schema import carrying, described, json_schemas, summarized
from penstock.infra.openapi_commands import outcome_type
from penstock.infra.service import Service

Json = dict[str, Any]
_TEMPLATE = "#/components/schemas/{name}"
_PLAIN: dict[str, type[msgspec.Struct]] = {
    "deadLetter": DeadLetter,
    "report": Report,
    "request": push.Request,
    "reply": push.Reply,
}
_OURS: tuple[Any, ...] = (Envelope, Problem, Archiving, None)
_HEADERS: Json = {
    "type": "object",
    "properties": {
        MSG_ID: {"type": "string", "description": "The command's id within its aggregate."},
        REPLY: {"type": "string", "description": "Where the outcome is wanted, if anywhere."},
    },
}


class Messages:
    """Every message by the name that channels refer to it by: types, and what has none."""

    def __init__(
        self, structs: dict[str, type[msgspec.Struct]], services: Sequence[Service[Any]]
    ) -> None:
        self.messages: Json = {}
        self._schemas = _Schemas([*_OURS, *structs.values(), *_PLAIN.values()], services)
        for name, struct in structs.items():
            self.messages[name] = self._enveloped(name, struct)
        for name, plain in _PLAIN.items():
            self.messages[name] = self._plain(plain, self._schemas.of(plain))
        for service in services:
            self._add_answers(service)
            self._add_outcomes(service)

    @property
    def schemas(self) -> Json:
        """The schemas that the messages refer to."""
        return self._schemas.components

    def _add_answers(self, service: Service[Any]) -> None:
        for endpoint in service.endpoints:
            name = f"{service.name}.{endpoint.name}"
            params = endpoint.params
            self.messages[f"{name}.question"] = self._plain(params, self._schemas.of(params))
            answer = carrying(Answer, self._schemas.of(endpoint.returns))
            self.messages[f"{name}.answer"] = _json("What the view says", self._or_problem(answer))
        for verb, asked in service.verbs.items():
            schema = self._schemas.of(asked.parameters)
            self.messages[f"{service.name}.{verb}.asked"] = self._plain(asked.parameters, schema)

    def _add_outcomes(self, service: Service[Any]) -> None:
        state = next(e.returns for e in service.endpoints if e.name == "get")
        for verb, struct in MESSAGES.newest(service.name, "command").items():
            data = self._schemas.of(outcome_type(struct, state))
            outcome = self._or_problem(carrying(Outcome, data))
            self.messages[f"{service.name}.{verb}.outcome"] = _json("What became of it", outcome)

    def _enveloped(self, name: str, struct: type[msgspec.Struct]) -> Json:
        kind = MESSAGES.type_of(struct)
        own = {"type": {"const": name}, "data": self._schemas.of(struct)}
        message: Json = {
            "name": name,
            "title": struct.__name__,
            "summary": summarized(struct),
            "description": described(struct),
            "contentType": CONTENT_TYPE,
            "correlationId": {"location": "$message.payload#/correlationid"},
            "payload": {
                "allOf": [self._schemas.of(Envelope), {"type": "object", "properties": own}]
            },
        }
        return {**message, "headers": _HEADERS} if kind.kind == "command" else message

    def _plain(self, struct: type[msgspec.Struct], schema: Json) -> Json:
        return {"description": described(struct), **_json(summarized(struct), schema)}

    def _or_problem(self, schema: Json) -> Json:
        problem = self._schemas.of(Problem)
        return {**schema, "properties": {**schema["properties"], "problem": problem}}


def _json(summary: str, payload: Json) -> Json:
    return {"summary": summary, "contentType": "application/json", "payload": payload}


class _Schemas:
    """Every schema of the document, in AsyncAPI's words."""

    def __init__(self, types: Sequence[Any], services: Sequence[Service[Any]]) -> None:
        asked = [t for s in services for e in s.endpoints for t in (e.params, e.returns)]
        verbs = [verb.parameters for service in services for verb in service.verbs.values()]
        told = [outcome_type(t, None) for s in services for t in _commands(s.name)]
        unique = {str(t): t for t in [*types, *asked, *verbs, *told]}
        schemas, components = json_schemas(list(unique.values()), _TEMPLATE)
        self._of = dict(zip(unique, map(_draft_07, schemas), strict=True))
        self.components: Json = _draft_07(components)

    def of(self, type: Any) -> Json:
        found: Json = self._of[str(type)]
        return found


def _commands(service: str) -> list[type[msgspec.Struct]]:
    return list(MESSAGES.newest(service, "command").values())


def _draft_07(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_draft_07(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    said = {key: _draft_07(value) for key, value in schema.items()}
    if isinstance(said.get("discriminator"), dict):  # a name alone there; anyOf says enough
        del said["discriminator"]
    if "prefixItems" in said:
        said |= {"items": said.pop("prefixItems"), "additionalItems": said.get("items", True)}
    return said
