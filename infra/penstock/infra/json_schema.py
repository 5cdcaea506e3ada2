"""JSON Schema 2020-12 of message and state Structs. Never written by hand."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import msgspec

Json = dict[str, Any]


def json_schemas(types: Sequence[Any], template: str) -> tuple[list[Json], Json]:
    """A schema for each type, and the components that they refer to by `template`, by name."""
    schemas, components = msgspec.json.schema_components(types, ref_template=template)
    return [_tidy(schema) for schema in schemas], _sorted(_tidy(components))


def described(struct: type[Any]) -> str:
    """What a Struct's docstring says, without the indentation of its source."""
    return inspect.cleandoc(struct.__doc__ or "")


def summarized(struct: type[Any]) -> str:
    """The first sentence of a Struct's docstring, on one line."""
    paragraph = " ".join(described(struct).split("\n\n")[0].split())
    return paragraph.split(". ")[0].rstrip(".:")


def carrying(struct: type[msgspec.Struct], data: Json) -> Json:
    """The schema of an Answer or Outcome that went well, whose `data` have the schema `data`."""
    _, components = json_schemas([struct], "#/{name}")
    schema = components[struct.__name__]
    fields = {name: field for name, field in schema["properties"].items() if name != "problem"}
    return {**schema, "properties": {**fields, "data": data}}


def _tidy(schema: Any) -> Any:
    """`schema` with descriptions as they are meant to be read."""
    if isinstance(schema, list):
        return [_tidy(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: inspect.cleandoc(value)
        if key == "description" and isinstance(value, str)
        else _tidy(value)
        for key, value in schema.items()
    }


def _sorted(components: Json) -> Json:
    return dict(sorted(components.items()))
