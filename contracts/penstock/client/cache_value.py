"""Cached values as MessagePack, and the fingerprint of their type. Never pickle, never any I/O."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from functools import lru_cache
from typing import Any, get_args, get_origin, get_type_hints
from weakref import WeakKeyDictionary

import msgspec

from penstock.contracts.errors import InvalidMessage

_UNKNOWN = (Any, object, inspect.Signature.empty)
_encode = msgspec.msgpack.Encoder().encode


class ValueType:
    """How values of one type are kept. For an unknown type they come back as plain data."""

    def __init__(self, type: Any = Any) -> None:
        self.schema = "" if type in _UNKNOWN else _fingerprint(type)
        self._name = getattr(type, "__name__", str(type))
        self._decode = msgspec.msgpack.Decoder(type if self.schema else Any).decode

    def reads(self, schema: str) -> bool:
        """Whether an entry whose type has this fingerprint can be read as this one."""
        return schema in ("", self.schema) or not self.schema

    def encode(self, value: Any, key: str) -> msgspec.Raw:
        """The bytes of a value. Raises InvalidMessage if it has no such form."""
        try:
            return msgspec.Raw(_encode(value))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidMessage(
                f"The value for the cache key {key!r} cannot be stored ({error}); use plain data, "
                "dates, dataclasses or msgspec Structs.",
                key=key,
            ) from error

    def decode(self, body: msgspec.Raw, key: str) -> Any:
        """The value in `body`. Raises InvalidMessage if it is not of this type."""
        try:
            return self._decode(body)
        except msgspec.DecodeError as error:
            raise InvalidMessage(
                f"The value for the cache key {key!r} is no {self._name} ({error}); "
                "correct the annotation, or `returns`.",
                key=key,
            ) from error


def _fingerprint(type: Any) -> str:
    """Changes with the form of the type, so that an old entry is never read as a new value."""
    try:
        schema = msgspec.json.schema(type)
    except TypeError as error:
        raise InvalidMessage(
            f"Values of the type {type!r} cannot be cached ({error}); use plain data, dates, "
            "dataclasses or msgspec Structs."
        ) from error
    return hashlib.blake2b(msgspec.json.encode(schema, order="sorted"), digest_size=8).hexdigest()


@lru_cache(maxsize=1024)
def value_type(type: Any) -> ValueType:
    """The ValueType of a type. Raises InvalidMessage if there can be none."""
    return ValueType(type)


_returned: WeakKeyDictionary[Callable[..., Any], ValueType] = WeakKeyDictionary()


def returned_by(function: Callable[..., Any]) -> ValueType:
    """The ValueType that a function's return annotation tells; unknown without one."""
    if "return" not in getattr(function, "__annotations__", {}):
        return value_type(Any)
    known = _returned.get(function)
    if known is None:
        known = _returned[function] = value_type(_annotation(function))
    return known


def _annotation(function: Callable[..., Any]) -> Any:
    try:
        annotation = get_type_hints(function)["return"]
    except NameError as error:
        raise InvalidMessage(
            f"The return annotation of {function.__qualname__} cannot be resolved ({error}); "
            "define the type at module level."
        ) from error
    if get_origin(annotation) in (Awaitable, Coroutine):
        return get_args(annotation)[-1]
    return annotation
