"""How a process's own answers are described: health, metrics, this description. Nothing else."""

from __future__ import annotations

from typing import Any

from penstock.infra.problem_responses import problems

Json = dict[str, Any]
_NAMES = {"type": "array", "items": {"type": "string"}}


def _get(name: str, summary: str, responses: Json) -> Json:
    operation = {"operationId": name, "summary": summary, "tags": ["system"]}
    return {"get": {**operation, "responses": {**responses, **problems(())}}}


def _json(meaning: str, schema: Json) -> Json:
    return {"description": meaning, "content": {"application/json": {"schema": schema}}}


_LIVE: Json = {
    "type": "object",
    "required": ["status"],
    "properties": {"status": {"const": "ok"}},
}
_READY: Json = {
    "type": "object",
    "required": ["status", "problems"],
    "properties": {
        "status": {"enum": ["ok", "not ready"]},
        "problems": {
            "type": "object",
            "description": "For each part of the process, why it is not ready.",
            "additionalProperties": _NAMES,
        },
    },
}
_METRICS: Json = {
    "description": "In the form that the Accept header asks for, text by default.",
    "content": {"text/plain": {}, "application/openmetrics-text": {}},
}

SYSTEM: Json = {
    "/health/live": _get(
        "system_live",
        "Whether the process runs",
        {"200": _json("It does.", _LIVE)},
    ),
    "/health/ready": _get(
        "system_ready",
        "Whether every part of the process does its work",
        {"200": _json("All of them do.", _READY), "503": _json("Some do not.", _READY)},
    ),
    "/metrics": _get("system_metrics", "Figures for Prometheus", {"200": _METRICS}),
    "/openapi.json": _get(
        "system_openapi",
        "The description of all that this process answers",
        {"200": _json("An OpenAPI 3.1 document.", {"type": "object"})},
    ),
}
