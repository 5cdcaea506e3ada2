"""Asking every instance of a service, and hearing how far each one is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from penstock.contracts.control import Report
from penstock.contracts.errors import Refused, Unavailable
from penstock.infra.bus import Bus
from penstock.infra.control import Control, Step, Verb, ask_all


class Count(msgspec.Struct):
    to: int


async def count(parameters: Count) -> AsyncIterator[Step]:
    for number in range(parameters.to):
        yield Step(number, parameters.to)
        await asyncio.sleep(0.01)
    yield Step(parameters.to, parameters.to, result={"counted": parameters.to})


async def refuse(parameters: Count) -> AsyncIterator[Step]:
    yield Step(0, parameters.to)
    raise Refused("Not today.")


VERBS = {"count": Verb(Count, count), "refuse": Verb(Count, refuse)}


@pytest.fixture
async def instances(bus: Bus) -> AsyncIterator[list[Control]]:
    running = [Control(bus, "progress", VERBS) for _ in range(2)]
    for control in running:
        await control.start()
    yield running
    for control in running:
        await control.stop()


async def ends(bus: Bus, verb: str, to: int) -> list[Report]:
    return [r async for r in ask_all(bus, "progress", verb, Count(to)) if r.ended]


async def test_every_instance_does_what_is_asked_and_says_so(
    bus: Bus, instances: list[Control]
) -> None:
    found = await ends(bus, "count", 3)
    assert {r.instance for r in found} == {c.instance for c in instances}
    assert {bytes(r.data) for r in found} == {b'{"counted":3}'}
    assert {(r.done, r.total) for r in found} == {(3, 3)}


async def test_one_that_works_for_long_gives_signs_of_life(
    bus: Bus, instances: list[Control]
) -> None:
    reports = [r async for r in ask_all(bus, "progress", "count", Count(120))]
    assert len([r for r in reports if r.ended]) == 2
    assert any(0 < r.done < 120 for r in reports)


async def test_a_failure_is_told_as_what_it_is(bus: Bus, instances: list[Control]) -> None:
    found = await ends(bus, "refuse", 3)
    assert [r.problem.detail for r in found if r.problem] == ["Not today."] * 2


async def test_an_unknown_verb_and_wrong_parameters_are_refused_with_what_there_is(
    bus: Bus, instances: list[Control]
) -> None:
    [first, _] = await ends(bus, "dance", 1)
    assert first.problem and "cannot 'dance'; it can count, refuse" in first.problem.detail
    wrong = [r async for r in ask_all(bus, "progress", "count", Report(instance="x")) if r.ended]
    assert wrong[0].problem and "`to`" in wrong[0].problem.detail


async def test_nobody_there_is_said_at_once(bus: Bus) -> None:
    with pytest.raises(Unavailable, match="No instance of progress answers"):
        await ends(bus, "count", 1)
