"""Puts results, items and indices into the payload of a step. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penstock.contracts.errors import InvalidMessage


def filled(payload: Any, results: Mapping[str, Any], item: Any = None, index: int = 0) -> Any:
    """`payload` with what its references stand for.

    Raises InvalidMessage if a path leads nowhere.
    """
    if isinstance(payload, dict):
        if "$result" in payload:
            return _part(results[payload["$result"]], payload)
        if "$item" in payload:
            return _at(item, payload.get("path", ""), "the item")
        if "$index" in payload:
            return index
        return {name: filled(value, results, item, index) for name, value in payload.items()}
    if isinstance(payload, list | tuple):
        return [filled(value, results, item, index) for value in payload]
    return payload


def _part(result: Any, reference: dict[str, Any]) -> Any:
    what = f"the result of {reference['$result']!r}"
    return _at(result, reference.get("path", ""), what)


def _at(value: Any, path: str, what: str) -> Any:
    for name in path.split(".") if path else ():
        try:
            value = value[int(name)] if isinstance(value, list) else value[name]
        except (KeyError, IndexError, TypeError, ValueError):
            raise InvalidMessage(f"There is no {path!r} in {what}.") from None
    return value
