"""A handler: the application's function, with its payload checked against its annotations.

Never starts, stores or acknowledges a job.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Literal, get_type_hints

import msgspec

from penstock.client.worker.context import JobContext
from penstock.client.worker.policy import USUAL, RetryPolicy
from penstock.contracts.envelope import invalid

Function = Callable[..., Any]
Lane = Literal["async", "thread", "process"]
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL)


class Handler:
    """`name` and the function that does such jobs; raises TypeError if it cannot.

    Payload fields become arguments of the same name. Fields that the function does not name are
    ignored, or handed to its `**kwargs`. `timeout` is an attempt's, in seconds, where the job has
    none of its own; `stages` are those of its progress.
    """

    def __init__(
        self,
        name: str,
        function: Function,
        *,
        policy: RetryPolicy | None = None,
        timeout: float | timedelta | None = None,
        lane: Lane | None = None,
        stages: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.function = function
        self.lane = lane or ("async" if inspect.iscoroutinefunction(function) else "thread")
        self.policy = policy or USUAL
        self.timeout = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        self.stages = tuple(stages)
        if self.timeout is not None and self.timeout <= 0:
            raise ValueError(f"The timeout of {name!r} is {self.timeout} s; it has to be more.")
        if (self.lane == "async") > inspect.iscoroutinefunction(function):
            raise TypeError(
                f"The handler of {name!r} is not async and would hold up the loop; "
                "leave out its lane, or say lane='process'."
            )
        if self.lane == "thread" and inspect.iscoroutinefunction(function):
            raise TypeError(f"The handler of {name!r} is async and runs on the loop, in no thread.")
        parameters = _parameters(name, function)
        hints = _hints(name, function)
        self.contexts = [p.name for p in parameters if hints.get(p.name) is JobContext]
        self.takes_context = bool(self.contexts)
        self._takes_rest = any(p.kind is p.VAR_KEYWORD for p in parameters)
        named = [
            p for p in parameters if p.kind is not p.VAR_KEYWORD and p.name not in self.contexts
        ]
        self._names = [p.name for p in named]
        self._arguments = _arguments(name, named, hints)
        self._decode = msgspec.json.Decoder(self._arguments).decode

    def arguments(self, payload: bytes | msgspec.Raw) -> dict[str, Any]:
        """The arguments in `payload`. Raises InvalidMessage, with the path of the wrong field."""
        try:
            checked = self._decode(payload)
        except msgspec.DecodeError as error:
            raise invalid(error, f"The payload of {self.name!r}", root="$.payload") from error
        found = {
            name: value
            for name in self._names
            if (value := getattr(checked, name)) is not msgspec.UNSET
        }
        if self._takes_rest:
            everything = msgspec.json.decode(payload)
            taken = {*self._names, *self.contexts}
            found |= {name: value for name, value in everything.items() if name not in taken}
        return found

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of its payload."""
        return msgspec.json.schema(self._arguments)

    def call(self, arguments: dict[str, Any], context: JobContext | None) -> Any:
        """Call the function: a coroutine if it is async, else its result."""
        if self.contexts:
            arguments = {**arguments, **dict.fromkeys(self.contexts, context)}
        return self.function(**arguments)


def _parameters(name: str, function: Function) -> list[inspect.Parameter]:
    parameters = list(inspect.signature(function).parameters.values())
    for parameter in parameters:
        if parameter.kind in _POSITIONAL:
            raise TypeError(
                f"The handler of {name!r} takes {parameter.name!r} by position; "
                "payload fields are handed over by name."
            )
    return parameters


def _hints(name: str, function: Function) -> dict[str, Any]:
    try:
        return get_type_hints(inspect.unwrap(function), include_extras=True)
    except NameError as error:
        raise TypeError(
            f"The handler of {name!r} has an annotation that cannot be resolved ({error}); "
            "import the type at the top of its module."
        ) from error


def _arguments(
    name: str, parameters: list[inspect.Parameter], hints: dict[str, Any]
) -> type[msgspec.Struct]:
    """A Struct with a field for each parameter; what has a default may be left out."""
    fields: list[Any] = []
    for parameter in parameters:
        annotation = hints.get(parameter.name, Any)
        if parameter.default is inspect.Parameter.empty:
            fields.append((parameter.name, annotation))
        else:
            fields.append((parameter.name, annotation | msgspec.UnsetType, msgspec.UNSET))
    try:
        struct = msgspec.defstruct("Arguments", fields, kw_only=True)
        msgspec.json.Decoder(struct)
    except TypeError as error:
        raise TypeError(
            f"The handler of {name!r} has an annotation that JSON cannot fill: {error}"
        ) from error
    return struct
