"""The words for what a workflow is made of: `step`, `chain`, `group`, `Result`. Never any I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from penstock.contracts.errors import InvalidMessage
from penstock.contracts.jobs import Backoff, Rules
from penstock.contracts.workflow_state import dependencies
from penstock.contracts.workflows import Step

_BEFORE = "$previous"


class Result(dict[str, Any]):
    """In a payload: what the step `key` returned, or the part of it at `path`, such as `a.b.0`."""

    def __init__(self, key: str, path: str = "") -> None:
        super().__init__({"$result": key, **({"path": path} if path else {})})


class Item(dict[str, Any]):
    """In the payload of a mapped step: its element, or the part of it at `path`."""

    def __init__(self, path: str = "") -> None:
        super().__init__({"$item": True, **({"path": path} if path else {})})


PREVIOUS = Result(_BEFORE)
"""In a `chain`: what the step before returned; after a group, the list of its results."""
INDEX = {"$index": True}
"""In the payload of a mapped step: the number of its element, from 0."""


def step(
    name: str,
    payload: Mapping[str, Any] | None = None,
    *,
    key: str | None = None,
    after: Sequence[str] = (),
    each: str | Sequence[Any] | None = None,
    on_failure: Literal["fail", "ignore"] = "fail",
    queue: str = "default",
    priority: int = 5,
    delay: float = 0,
    max_attempts: int = 3,
    backoff: Backoff | None = None,
    rules: Rules | None = None,
) -> Step:
    """A step that runs the handler `name`; see `Step`. Its key is the name if none is given."""
    return Step(
        key=key or name,
        name=name,
        payload=dict(payload or {}),
        after=tuple(after),
        each=each if each is None or isinstance(each, str) else tuple(each),
        on_failure=on_failure,
        queue=queue,
        priority=priority,
        delay=delay,
        max_attempts=max_attempts,
        backoff=backoff or Backoff(),
        rules=rules or Rules(),
    )


class Flow(msgspec.Struct, frozen=True):
    """Some steps in their order. `last` are the keys of those that the next ones wait for, and
    `many` says that what they give is a list."""

    steps: tuple[Step, ...]
    last: tuple[str, ...]
    many: bool = False

    def then(self, following: Step | Flow) -> Flow:
        """This, and then what follows with `PREVIOUS` for what this gives."""
        flow = _flow(following)
        given = [Result(key) for key in self.last] if self.many else Result(self.last[0])
        joined = tuple(self._joined(each, given) for each in flow.steps)
        return Flow((*self.steps, *joined), flow.last, flow.many)

    def map(self, mapped: Step) -> Flow:
        """This, and then `mapped` once for each element of the list that this gives.

        Raises InvalidMessage after a group, where there is no one step that gives the list.
        """
        if self.many:
            raise InvalidMessage(
                "A map needs the list that one step returns; join what the group gives by a step, "
                "as in group(...).then(join).map(...)."
            )
        return self.then(replace(mapped, each=self.last[0]))

    def _joined(self, step: Step, given: Any) -> Step:
        first = not dependencies(step) - {_BEFORE, *self.last}
        after = (*step.after, *self.last) if first else step.after
        return replace(step, payload=_replaced(step.payload, given), after=after)


def chain(*steps: Step | Flow) -> Flow:
    """One after the other; in each, `PREVIOUS` is what the one before returned."""
    first, *others = steps
    flow = _flow(first)
    for each in others:
        flow = flow.then(each)
    return flow


def group(*flows: Step | Flow) -> Flow:
    """All at the same time; `.then(join)` waits for all and has the list of results."""
    made = [_flow(each) for each in flows]
    steps = tuple(step for flow in made for step in flow.steps)
    return Flow(steps, tuple(key for flow in made for key in flow.last), many=True)


def _flow(of: Step | Flow) -> Flow:
    return of if isinstance(of, Flow) else Flow((of,), (of.key,))


def _replaced(value: Any, given: Any) -> Any:
    if isinstance(value, dict):
        if value.get("$result") == _BEFORE:
            return given
        return {name: _replaced(part, given) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_replaced(part, given) for part in value]
    return value
