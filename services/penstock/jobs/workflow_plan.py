"""Which step of a workflow waits for which, found out once for all its events. Pure."""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from penstock.contracts.workflow_state import dependencies
from penstock.contracts.workflows import Step

REMEMBERED = 64  # workflows


class Plan(msgspec.Struct, frozen=True):
    """The steps by key, and for each key those that it needs, and those that need it."""

    steps: dict[str, Step]
    needs: dict[str, set[str]]
    followers: dict[str, list[str]]


_known: OrderedDict[int, tuple[tuple[Step, ...], Plan]] = OrderedDict()


def plan_of(steps: tuple[Step, ...]) -> Plan:
    """The plan of `steps`. The states of one workflow share them, and so their plan."""
    found = _known.get(id(steps))
    if found is None:  # what is remembered keeps its steps, whose `id` is thus nobody else's
        found = _known[id(steps)] = (steps, _plan(steps))
        if len(_known) > REMEMBERED:
            _known.popitem(last=False)
    return found[1]


def _plan(steps: tuple[Step, ...]) -> Plan:
    needs = {step.key: dependencies(step) for step in steps}
    followers: dict[str, list[str]] = {}
    for key, needed in needs.items():
        for one in needed:
            followers.setdefault(one, []).append(key)
    return Plan({step.key: step for step in steps}, needs, followers)
