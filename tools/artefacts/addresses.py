"""The subjects of the bus as channels with parameters, read from `Subjects`. Never any message."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import msgspec

from penstock.contracts.subjects import MAX_ID, SERVICES, Subjects, untoken

Json = dict[str, Any]
_TOKEN = f"One to {MAX_ID} characters; all but letters, digits, - and _ are %-encoded."
_MEANINGS = {
    "id": f"The aggregate's id. {_TOKEN}",
    "entity": f"The kind of thing, in the application's words. {_TOKEN}",
    "queue": f"The queue. {_TOKEN}",
    "job": f"The job's id. {_TOKEN}",
    "priority": "9 goes first, 0 last.",
    "service": "The service.",
    "kind": "What the message is: an event, a command and so on.",
    "consumer": f"Who could not handle it. {_TOKEN}",
    "sequence": "The message's sequence in its own stream.",
    "verb": "What is asked.",
    "name": "What is asked.",
}


class Address(msgspec.Struct, frozen=True):
    """A kind of subject: the method of `Subjects` that makes it, its parts and what it is for."""

    method: str
    parameters: tuple[str, ...]
    meaning: str

    def pattern(self, **known: str) -> str:
        """The subject, with `{name}` for each part that is not `known`."""
        tokens = {name: known.get(name, f"{{{name}}}") for name in self.parameters}
        subject: str = getattr(Subjects(), self.method)(**tokens)
        return untoken(subject)

    def described(self, **known: str) -> Json:
        """Each part that is not `known`, as AsyncAPI describes a channel's parameters."""
        return {name: _parameter(name) for name in self.parameters if name not in known}


def _parameter(name: str) -> Json:
    parameter: Json = {"description": _MEANINGS.get(name, _TOKEN)}
    if name == "service":
        parameter["enum"] = list(SERVICES)
    if name == "priority":
        parameter["enum"] = [str(number) for number in range(10)]
    return parameter


def addresses() -> Iterator[Address]:
    """Every kind of subject that a message can be on; names of streams and wildcards are none."""
    for method, function in inspect.getmembers(Subjects, inspect.isfunction):
        if method.startswith("_"):
            continue
        parameters = tuple(inspect.signature(function).parameters)[1:]
        address = Address(method, parameters, inspect.cleandoc(function.__doc__ or ""))
        tokens = address.pattern().split(".")
        if len(tokens) > 1 and not {"*", ">"} & set(tokens):
            yield address
