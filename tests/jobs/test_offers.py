"""Work items are put into the queue once, however often and in whatever way they are offered."""

from __future__ import annotations

import pytest

from penstock.client import Penstock
from penstock.contracts.subjects import MSG_ID
from penstock.infra.bus import Message
from penstock.infra.event_log import Durability
from penstock.jobs.offers import Offers
from support.workers import stored


def items(ps: Penstock, first: int, count: int) -> list[Message]:
    subject = ps.session.bus.subjects.work
    names = [f"j{n}" for n in range(first, first + count)]
    return [(subject("default", 5, name), b"{}", {MSG_ID: f"{name}:1"}) for name in names]


@pytest.mark.parametrize("durability", ["fsync", "os"])
@pytest.mark.parametrize(("known", "count"), [(0, 3), (2, 3), (5, 40), (40, 40), (0, 2500)])
async def test_an_item_that_was_offered_before_is_offered_once(
    ps: Penstock, durability: Durability, known: int, count: int
) -> None:
    offers = Offers(ps.session.bus, durability)
    await offers.put(items(ps, 0, known))
    await offers.put(items(ps, 0, count))
    assert await stored(ps, "work") == count
    await offers.put(items(ps, count - 1, 30))
    assert await stored(ps, "work") == count + 29
