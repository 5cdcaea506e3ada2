"""Refuses workflows that could not run, with one sentence that says why. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

import msgspec

from penstock.contracts.errors import InvalidMessage, TooLarge
from penstock.contracts.jobs import MAX_INLINE
from penstock.contracts.workflow_state import dependencies
from penstock.contracts.workflows import MAX_ELEMENTS, MAX_STEPS, StartWorkflow, Step


def check(command: StartWorkflow) -> None:
    """Raise InvalidMessage or TooLarge if the steps do not make a workflow."""
    steps = command.steps
    if not steps:
        raise InvalidMessage("The workflow has no steps; give it at least one.")
    if len(steps) > MAX_STEPS:
        raise TooLarge(f"The workflow has {len(steps)} steps and may have {MAX_STEPS}.")
    if (size := len(msgspec.json.encode(command))) > MAX_INLINE:
        raise TooLarge(f"The workflow has {size} bytes and may have {MAX_INLINE}.")
    keys = {step.key for step in steps}
    if len(keys) < len(steps):
        twice = next(s.key for n, s in enumerate(steps) if s.key in {e.key for e in steps[:n]})
        raise InvalidMessage(f"Two steps have the key {twice!r}; give each its own.")
    for step in steps:
        _check_step(step, keys)
    _check_order(steps)


def _check_step(step: Step, keys: set[str]) -> None:
    if unknown := sorted(dependencies(step) - keys):
        raise InvalidMessage(
            f"The step {step.key!r} depends on {unknown[0]!r}, which is no step of the workflow."
        )
    if isinstance(step.each, tuple) and len(step.each) > MAX_ELEMENTS:
        raise TooLarge(
            f"The step {step.key!r} is mapped over {len(step.each)} elements; "
            f"at most {MAX_ELEMENTS} are allowed."
        )
    for place in _places(step.payload):
        _check_place(step, place)


def _check_place(step: Step, place: dict[str, Any]) -> None:
    extra = set(place) - {"$result", "path"}
    if "$result" in place and (extra or not isinstance(place["$result"], str)):
        raise InvalidMessage(
            f'The step {step.key!r} has a reference that is not {{"$result": KEY}}, with or '
            'without "path".'
        )
    if not isinstance(place.get("path", ""), str):
        raise InvalidMessage(f"The step {step.key!r} has a path that is not a text like 'a.b.0'.")
    if step.each is None and "$result" not in place:
        raise InvalidMessage(
            f"The step {step.key!r} asks for its item or index and is not mapped; give it `each`."
        )


def _places(value: Any) -> Iterator[dict[str, Any]]:
    """Every part of a payload that something is to be put in place of."""
    if isinstance(value, dict):
        if value.keys() & {"$result", "$item", "$index"}:
            yield value
            return
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from _places(part)


def _check_order(steps: tuple[Step, ...]) -> None:
    try:
        TopologicalSorter({step.key: dependencies(step) for step in steps}).prepare()
    except CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        raise InvalidMessage(f"The steps wait for each other in a circle: {circle}.") from None
