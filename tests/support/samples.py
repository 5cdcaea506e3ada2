"""Values of any message type, made from what msgspec knows of it: the least, and the fullest."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import inspect

_MOMENT = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


def sample(type: Any, *, full: bool) -> Any:
    """A value of `type`: with every field, or only with those that have no default."""
    return _value(inspect.type_info(type), full)


def _value(type: inspect.Type, full: bool) -> Any:
    match type:
        case inspect.StructType(cls=struct, fields=fields):
            wanted = [f for f in fields if f.required or full]
            return struct(**{f.name: _value(f.type, full) for f in wanted})
        case inspect.UnionType(types=types):
            known = [t for t in types if not isinstance(t, inspect.NoneType)]
            return _value(known[0], full) if full else _value(types[-1], full)
        case inspect.StrType(min_length=shortest, pattern=pattern):
            return "0" * 64 if pattern and "64" in pattern else "text"[: max(4, shortest or 0)]
        case inspect.IntType(ge=least):
            return least or 7
        case inspect.FloatType(ge=least):
            return (least or 0) + 0.5
        case inspect.BoolType():
            return True
        case inspect.DateTimeType():
            return _MOMENT
        case inspect.LiteralType(values=values):
            return values[0]
        case inspect.DictType(key_type=key, value_type=value):
            return {_value(key, full): _value(value, full)} if full else {}
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
            return (_value(item, full),) if full else ()
        case inspect.BytesType():
            return b"\x00bytes\xff"
        case inspect.RawType():
            return msgspec.Raw(b'{"a":[1,null]}')
        case inspect.AnyType():
            return {"any": [1, "two", None]} if full else None
        case inspect.NoneType():
            return None
        case _:
            raise NotImplementedError(type)
