"""Cache keys and tags from the arguments of a call. Pure: never touches the cache.

Different arguments never give the same key: every value is written with its type and its length,
and a type that has no such form is refused rather than written by its `str`.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from penstock.contracts.errors import InvalidMessage

_ATOMS: dict[type, tuple[str, Callable[[Any], str]]] = {
    type(None): ("none", lambda _: ""),
    bool: ("bool", str),
    int: ("int", str),
    float: ("float", repr),
    str: ("str", str),
    bytes: ("bytes", bytes.hex),
    Decimal: ("decimal", str),
    UUID: ("uuid", str),
    datetime: ("datetime", datetime.isoformat),
    date: ("date", date.isoformat),
    time: ("time", time.isoformat),
    timedelta: ("timedelta", lambda span: f"{span.days},{span.seconds},{span.microseconds}"),
}


def encoded(value: Any, what: str) -> str:
    """`value` as text that no other value has, of whatever type.

    Takes None, bool, numbers, str, bytes, UUID, Decimal, dates and times, enumerations, and lists,
    tuples, sets and dicts of these. Raises InvalidMessage for anything else, named by `what`.
    """
    if isinstance(value, Enum):
        name = f"{type(value).__module__}.{type(value).__qualname__}"
        return _framed("enum", _framed("", name) + _framed("", value.name))
    atom = _ATOMS.get(type(value))
    if atom is not None:
        kind, text_of = atom
        return _framed(kind, text_of(value))
    return _framed(type(value).__name__, "".join(_parts(value, what)))


def _framed(kind: str, text: str) -> str:
    return f"{kind}{len(text)}:{text}"


def _parts(value: Any, what: str) -> Sequence[str]:
    """The elements of a collection, sorted where they have no order."""
    kind = type(value)
    if kind is list or kind is tuple:
        return [encoded(element, what) for element in value]
    if kind is set or kind is frozenset:
        return sorted(encoded(element, what) for element in value)
    if kind is dict:
        return sorted(encoded(k, what) + encoded(v, what) for k, v in value.items())
    raise InvalidMessage(
        f"{what} is a {kind.__qualname__}, which cannot be part of a cache key; pass what "
        "identifies it, such as its id: a str, number, bytes, UUID, date, enumeration, or a list, "
        "tuple, set or dict of these."
    )


def key_of(prefix: str, arguments: Mapping[str, Any]) -> str:
    """The canonical key of one call, such as `user(user_id=str1:7)`."""
    parts = [f"{name}={encoded(v, f'The argument {name!r}')}" for name, v in arguments.items()]
    return f"{prefix}({','.join(parts)})"


class TagTemplate:
    """A tag with arguments in it, such as `user:{user_id}`; any other is taken as it is.

    Raises InvalidMessage for a template that names no parameter of the function.
    """

    def __init__(self, template: str, parameters: Sequence[str]) -> None:
        self._template = template
        for name in _names(template):
            if name not in parameters:
                has = f"it has {', '.join(parameters)}" if parameters else "it has none"
                raise InvalidMessage(
                    f"The tag {template!r} names {name!r}, which is no parameter of the function; "
                    f"{has}."
                )

    def of(self, arguments: Mapping[str, Any]) -> str:
        """The tag for one call."""
        return self._template.format_map(arguments)


def _names(template: str) -> list[str]:
    """The parameters that a template names: `a` for `{a}`, `{a.b}` and `{a[0]}`."""
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(template)]
    except ValueError as error:
        raise InvalidMessage(f"The tag {template!r} is no template: {error}.") from error
    return [f.partition(".")[0].partition("[")[0] for f in fields if f is not None]
