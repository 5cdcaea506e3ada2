"""How long events gather: no longer than nobody waits for them, and not when they come rarely."""

from __future__ import annotations

import asyncio

import pytest

from penstock.infra.views import pace
from penstock.infra.views.pace import FAR, Pace

HOUR = 3600.0


@pytest.fixture
async def busy(monkeypatch: pytest.MonkeyPatch) -> Pace:
    """A view that would wait for an hour: folding took long."""
    monkeypatch.setattr(pace, "LONGEST", HOUR)
    busy = Pace()
    with busy.folding():
        pass
    busy._took = HOUR
    return busy


async def gathers(
    one: Pace, *, behind: int = 0, awaited: bool = False, watched: bool = False
) -> bool:
    gathering = asyncio.create_task(one.gather(behind=behind, awaited=awaited, watched=watched))
    done, _ = await asyncio.wait({gathering}, timeout=0.05)
    gathering.cancel()
    await asyncio.gather(gathering, return_exceptions=True)
    return not done


async def test_what_comes_after_a_while_is_folded_after_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not await gathers(Pace())
    monkeypatch.setattr(pace, "LEAST", HOUR)
    assert await gathers(Pace())


async def test_what_somebody_waits_for_or_wants_to_hear_of_is_folded_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pace, "LEAST", HOUR)
    assert not await gathers(Pace(), awaited=True)
    assert not await gathers(Pace(), watched=True)


async def test_what_comes_fast_gathers(busy: Pace) -> None:
    assert await gathers(busy)


async def test_nothing_gathers_while_somebody_waits_for_it(busy: Pace) -> None:
    assert not await gathers(busy, awaited=True)


async def test_a_view_that_is_far_behind_does_not_wait_for_more(busy: Pace) -> None:
    assert not await gathers(busy, behind=FAR + 1)


async def test_who_begins_to_wait_ends_the_gathering(busy: Pace) -> None:
    gathering = asyncio.create_task(busy.gather(behind=0, awaited=False, watched=False))
    await asyncio.sleep(0)
    busy.hurry()
    async with asyncio.timeout(30):
        await gathering
