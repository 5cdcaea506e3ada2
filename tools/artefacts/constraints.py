"""What a JSON Schema allows beside its fields, compared: narrower, wider or another. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

Json = dict[str, Any]
Change = Literal["narrower", "wider"]
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_EXACT = ("pattern", "format", "multipleOf", "uniqueItems")
NULL = "null"
ANY = "any"


def constraints(old: Json, new: Json) -> Iterator[tuple[Change, str]]:
    """Each constraint that changed: which way, and what to call it."""
    for key in (*_LOWER, *_UPPER, *_EXACT):
        was, now = old.get(key), new.get(key)
        if was != now:
            what = f"{key} of {{at}} changed from {_said(was)} to {_said(now)}"
            yield _way(key, was, now), what
    yield from _values(old, new)


def _way(key: str, was: Any, now: Any) -> Change:
    if now is None:
        return "wider"
    if was is None or key in _EXACT:
        return "narrower"
    return "narrower" if (now > was) == (key in _LOWER) else "wider"


def _values(old: Json, new: Json) -> Iterator[tuple[Change, str]]:
    """The values of an enum or const that came and went."""
    was, now = _allowed(old), _allowed(new)
    if was == now:
        return
    if was is None or now is None:
        some = ", ".join(sorted(was or now or ()))
        yield (
            ("narrower", f"{{at}} can only be {some} now")
            if was is None
            else (
                "wider",
                f"{{at}} can be more than {some} now",
            )
        )
        return
    if gone := was - now:
        yield "narrower", f"{{at}} cannot be {', '.join(sorted(gone))} any more"
    if come := now - was:
        yield "wider", f"{{at}} can also be {', '.join(sorted(come))}"


def _allowed(schema: Json) -> set[str] | None:
    if "const" in schema:
        return {json.dumps(schema["const"])}
    return {json.dumps(value) for value in schema["enum"]} if "enum" in schema else None


def _said(value: Any) -> str:
    return "none" if value is None else json.dumps(value)


def types(forms: list[Json]) -> set[str]:
    """The JSON types of all forms that a value may have."""
    return {name for form in forms for name in _types(form)}


def _types(schema: Json) -> set[str]:
    if "type" in schema:
        found = schema["type"]
        return set(found) if isinstance(found, list) else {found}
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    return {ANY} if values is None else {_type_of(value) for value in values}


def _type_of(value: Any) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): NULL}
    return names.get(type(value), "object")
