"""Finds the name of a job by the function that does it, and checks payloads before they are sent.

Only functions that were registered in this process are known. Never calls one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from penstock.contracts.errors import InvalidMessage

KEPT = "__penstock_handlers__"  # on the function itself, so that it is let go of with it


class Checked(Protocol):
    """A handler, as far as it is needed here."""

    name: str

    def arguments(self, payload: bytes | msgspec.Raw) -> dict[str, Any]:
        """Raises InvalidMessage for a payload that does not fit."""
        ...


def remember(function: Callable[..., Any], handler: Checked) -> None:
    """`function` does the jobs of `handler`; one that can keep nothing goes by its name only."""
    with contextlib.suppress(AttributeError):
        setattr(function, KEPT, (*getattr(function, KEPT, ()), handler))


def name_of(job: str | Callable[..., Any], payload: Mapping[str, Any]) -> str:
    """The name of the jobs that a function does, whose arguments `payload` is checked to be.

    A name is returned as it is. Raises InvalidMessage for a payload that does not fit, with the
    path, and for a function that is registered under no name or under several.
    """
    if isinstance(job, str):
        return job
    handlers: dict[str, Checked] = {one.name: one for one in getattr(job, KEPT, ())}
    if len(handlers) != 1:
        names = " and ".join(map(repr, handlers)) or "no name"
        raise InvalidMessage(
            f"{job!r} is registered under {names} here; enqueue by the job's name."
        )
    [handler] = handlers.values()
    handler.arguments(msgspec.json.encode(payload))
    return handler.name
