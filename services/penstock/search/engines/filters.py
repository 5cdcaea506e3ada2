"""Metadata as rows of an index, and filters on it as SQL over these rows. Never runs the SQL.

A field is named by the path to it, with dots: `author.name`. Null, an empty list and an absent
field are the same. Of a list any element may satisfy a condition, and objects in a list are
reached through it: `speakers.name`. Text, numbers and booleans never equal one another and have
no order among them; text is ordered by code point, which is right for ISO 8601 dates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import apsw

from penstock.contracts.errors import InvalidMessage

MOST_CONDITIONS = 100
MOST_VALUES = 10_000
# A value in a list takes two placeholders, a condition at most four. SQLite allows 32,766.
MOST_BINDINGS = 2 * MOST_VALUES + 4 * MOST_CONDITIONS

TEXT: Final = "text"
NUMBER: Final = "number"
FLAG: Final = "flag"

_COMPARED = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


class FieldRow(NamedTuple):
    """One value of one field, as it is indexed. `listed` tells an element of a list."""

    path: str
    kind: str
    value: str | int | float
    listed: bool


class Condition(NamedTuple):
    """SQL that holds for the `number` of a document, and what is bound to its placeholders."""

    sql: str
    bindings: tuple[apsw.SQLiteValue, ...]


def field_rows(metadata: Mapping[str, Any]) -> Iterator[FieldRow]:
    """Every value in `metadata`, which holds JSON values."""
    for key, value in metadata.items():
        yield from _rows(key, value, listed=False)


def _rows(path: str, value: Any, *, listed: bool) -> Iterator[FieldRow]:
    match value:
        case None:
            return
        case Mapping():
            for key, inner in value.items():
                yield from _rows(f"{path}.{key}", inner, listed=listed)
        case list() | tuple():
            for element in value:
                yield from _rows(path, element, listed=True)
        case _:
            yield FieldRow(path, *_typed(value, path), listed)


def condition(filters: Mapping[str, Any]) -> Condition:
    """What holds for the documents that pass all of `filters`.

    Raises InvalidMessage for an unknown operator, or an operand that its operator cannot take.
    """
    conditions = [c for field, wanted in filters.items() for c in _of_field(field, wanted)]
    bindings = tuple(value for c in conditions for value in c.bindings)
    if len(conditions) > MOST_CONDITIONS or len(bindings) > MOST_BINDINGS:
        raise InvalidMessage(
            f"The filters are too large; use at most {MOST_CONDITIONS} conditions, "
            f"and {MOST_VALUES} values in all.",
            path="filters",
        )
    return Condition(" AND ".join(c.sql for c in conditions) or "TRUE", bindings)


def _of_field(field: str, wanted: Any) -> Iterator[Condition]:
    if not isinstance(wanted, Mapping):
        yield _equal(field, wanted, f"filters.{field}")
        return
    if not wanted:
        raise InvalidMessage(
            f"The filter on {field} is empty; give it a value or an operator.",
            path=f"filters.{field}",
        )
    for operator, operand in wanted.items():
        yield _of_operator(field, operator, operand)


def _of_operator(field: str, operator: str, operand: Any) -> Condition:
    path = f"filters.{field}.{operator}"
    build = _OPERATORS.get(operator)
    if build is not None:
        return build(field, operand, path)
    if operator in _COMPARED:
        return _compare(field, operand, path, _COMPARED[operator])
    raise InvalidMessage(
        f"There is no operator {operator!r} in the filter on {field}; "
        f"use one of {', '.join([*_OPERATORS, *_COMPARED])}.",
        path=path,
    )


def _equal(field: str, operand: Any, path: str) -> Condition:
    if operand is None:
        return _negated(_present(field))
    kind, value = _typed(operand, path)
    return _among("path = ? AND kind = ? AND value = ?", field, kind, value)


def _differ(field: str, operand: Any, path: str) -> Condition:
    return _negated(_equal(field, operand, path))


def _compare(field: str, operand: Any, path: str, sign: str) -> Condition:
    if isinstance(operand, bool):
        raise InvalidMessage(f"{path} compares with text or numbers, not {operand}.", path=path)
    kind, value = _typed(operand, path)
    return _among(f"path = ? AND kind = ? AND value {sign} ?", field, kind, value)


def _one_of(field: str, operand: Any, path: str) -> Condition:
    if not isinstance(operand, list | tuple):
        raise InvalidMessage(f"{path} takes a list of values, not {operand!r:.60}.", path=path)
    if not operand:
        return Condition("FALSE", ())
    typed = [_typed(element, path) for element in operand]
    values = ", ".join(["(?, ?)"] * len(typed))
    bindings = (part for pair in typed for part in pair)
    return _among(f"path = ? AND (kind, value) IN (VALUES {values})", field, *bindings)


def _contain(field: str, operand: Any, path: str) -> Condition:
    kind, value = _typed(operand, path)
    element = "listed AND value = ?"
    if kind != TEXT:
        return _among(f"path = ? AND kind = ? AND {element}", field, kind, value)
    return _among(
        f"path = ? AND kind = ? AND ({element} OR NOT listed AND instr(value, ?))",
        field,
        kind,
        value,
        value,
    )


def _exist(field: str, operand: Any, path: str) -> Condition:
    if not isinstance(operand, bool):
        raise InvalidMessage(f"{path} takes true or false.", path=path)
    return _present(field) if operand else _negated(_present(field))


def _present(field: str) -> Condition:
    # The fields of an object lie between its path and a dot, and the next character.
    return _among("path = ? OR path > ? AND path < ?", field, f"{field}.", f"{field}/")


def _among(sql: str, *bindings: apsw.SQLiteValue) -> Condition:
    return Condition(f"number IN (SELECT document FROM indexed_field WHERE {sql})", bindings)


def _negated(inner: Condition) -> Condition:
    return Condition(f"NOT {inner.sql}", inner.bindings)


def _typed(value: Any, path: str) -> tuple[str, str | int | float]:
    match value:
        case bool():
            return FLAG, int(value)
        case str():
            return TEXT, value
        case int():
            return NUMBER, _as_stored(value)
        case float():
            return NUMBER, value
        case _:
            raise InvalidMessage(
                f"{path} must be text, a number or a boolean, not {value!r:.60}.", path=path
            )


def _as_stored(number: int) -> int | float:
    """SQLite's integers have 64 bits; a larger one is compared as floating point."""
    if -(2**63) <= number < 2**63:
        return number
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


_OPERATORS: dict[str, Callable[[str, Any, str], Condition]] = {
    "eq": _equal,
    "ne": _differ,
    "in": _one_of,
    "contains": _contain,
    "exists": _exist,
}
