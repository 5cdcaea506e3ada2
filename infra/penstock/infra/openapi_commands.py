"""How a command over HTTP is described: `POST /commands/<service>/<verb>`. Never handles one."""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.contracts.answers import Accepted, Outcome
from penstock.contracts.envelope import type_of
from penstock.contracts.lifecycle import Archive, Archiving, Erase
from penstock.infra.json_schema import carrying, described, summarized
from penstock.infra.problem_responses import COMMAND, problems
from penstock.infra.sender import LONGEST_WAIT

Json = dict[str, Any]
_TEXT = {"type": "string"}


def command_operation(struct: type[msgspec.Struct], data: Json, outcome: Json) -> Json:
    """The operation that sends a command; `data` and `outcome` are the schemas of what is sent
    and of what comes of it.
    """
    kind = type_of(struct)
    accepted = {"$ref": "#/components/schemas/Accepted"}
    return {
        "operationId": f"{kind.service}_{kind.name}_command",
        "summary": summarized(struct),
        "description": described(struct),
        "tags": [kind.service],
        "parameters": [_WAIT],
        "requestBody": {"required": True, "content": content(_body(data, kind.version))},
        "responses": {
            "200": {
                "description": "With `wait`: the outcome.",
                "content": content(carrying(Outcome, outcome)),
            },
            "202": {"description": summarized(Accepted), "content": content(accepted)},
            **problems(COMMAND),
        },
    }


def content(schema: Json) -> Json:
    """A body of JSON."""
    return {"application/json": {"schema": schema}}


def outcome_type(struct: type[msgspec.Struct], state: Any) -> Any:
    """What a command's outcome has as its data: the aggregate's state, except for a few."""
    if issubclass(struct, Archive):
        return Archiving
    return None if issubclass(struct, Erase) else getattr(struct, "outcome", state)


_WAIT = {
    "name": "wait",
    "in": "query",
    "schema": {"type": "number", "minimum": 0, "maximum": LONGEST_WAIT, "default": 0},
    "description": "Seconds to wait for the outcome; without it the command is merely stored.",
}


def _body(data: Json, version: int) -> Json:
    return {
        "type": "object",
        "required": ["id"],
        "properties": {
            "id": {**_TEXT, "description": "The aggregate that the command is for."},
            "data": data,
            "version": {
                "type": "integer",
                "default": version,
                "minimum": 1,
                "maximum": version,
                "description": "The version of the form of `data`, the newest unless given.",
            },
            "command_id": {
                **_TEXT,
                "description": "Sending again with the same one has no second effect.",
            },
            "correlation_id": {**_TEXT, "description": "The flow that the command belongs to."},
            "actor": {**_TEXT, "description": "Who asks for it, for the history."},
        },
    }
