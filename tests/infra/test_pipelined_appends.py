"""Appends one by one, all on their way at once: each is told of, whatever becomes of the others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

import pytest

from penstock.infra.append_many import UNKNOWN, Append
from penstock.infra.bus import Bus
from penstock.infra.nats_server.configuration import MAX_PAYLOAD
from penstock.infra.pipelined_appends import PipelinedAppends
from support.proxy import Proxy


async def store(bus: Bus, appends: Sequence[Append], *, most: int = 1000) -> list[int]:
    """The sequences of `appends`, in their order."""
    pipeline, told = PipelinedAppends(bus, most=most), dict[int, int]()
    for place, append in enumerate(appends):
        pipeline.add(append, partial(told.__setitem__, place))
    await pipeline.close()
    return [told[place] for place in range(len(appends))]


def appends_to(bus: Bus, expected: Sequence[int]) -> list[Append]:
    subject = bus.subjects.event
    return [Append(subject("progress", f"{n}"), b"%d" % n, e) for n, e in enumerate(expected)]


@pytest.mark.parametrize("most", [1, 7, 1000])
async def test_all_are_stored_in_their_order(bus: Bus, most: int) -> None:
    appends = appends_to(bus, [0] * 50)
    sequences = await store(bus, appends, most=most)
    assert sequences == list(range(1, 51))
    [found] = await bus.direct_get(bus.subjects.event_stream("progress"), {"seq": 50})
    assert (found.subject, found.data) == (appends[-1].subject, appends[-1].body)


async def test_behind_an_event_the_next_one_follows(bus: Bus) -> None:
    first = await store(bus, appends_to(bus, [0] * 20))
    assert UNKNOWN not in await store(bus, appends_to(bus, first))
    assert await store(bus, appends_to(bus, first)) == [UNKNOWN] * 20


async def test_one_that_is_refused_concerns_no_other(bus: Bus) -> None:
    await bus.publish_acked(bus.subjects.event("progress", "1"), b"somebody was quicker")
    assert await store(bus, appends_to(bus, [0, 0, 0])) == [2, UNKNOWN, 3]


async def test_one_that_is_too_large_concerns_no_other(bus: Bus) -> None:
    small, other = appends_to(bus, [0, 0])
    large = Append(bus.subjects.event("progress", "large"), b"x" * MAX_PAYLOAD, 0)
    assert await store(bus, [small, large, other]) == [1, UNKNOWN, 2]


async def test_large_ones_are_stored_a_few_at_a_time(bus: Bus) -> None:
    subject = bus.subjects.event
    large = [Append(subject("progress", f"{n}"), b"x" * 2_000_000, 0) for n in range(12)]
    assert await store(bus, large) == list(range(1, 13))


async def test_without_a_stream_none_is_stored(bus: Bus) -> None:
    nowhere = [Append(f"{bus.subjects.prefix}.nowhere", b"", 0)] * 3
    assert await store(bus, nowhere) == [UNKNOWN] * 3


async def test_what_the_answer_is_lost_of_is_unknown_at_once(
    bus: Bus, cut_bus: Bus, proxy: Proxy
) -> None:
    proxy.lose, proxy.cut_then = b'"seq":', True
    async with asyncio.timeout(4):  # less than until it counts as late
        assert await store(cut_bus, appends_to(bus, [0] * 5)) == [UNKNOWN] * 5
    assert UNKNOWN not in await store(bus, appends_to(bus, [1, 2, 3, 4, 5]))


async def test_more_are_stored_by_the_same_pipeline_when_the_first_are_answered(bus: Bus) -> None:
    pipeline, told = PipelinedAppends(bus), list[int]()
    first, second = appends_to(bus, [0, 0])

    def then(sequence: int) -> None:
        told.append(sequence)
        pipeline.add(second, told.append)

    pipeline.add(first, then)
    async with asyncio.timeout(5):
        while len(told) < 2:
            await asyncio.sleep(0)
    assert told == [1, 2]


async def test_where_nothing_can_be_sent_for_an_unforeseen_reason_all_are_told(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(frames: Sequence[bytes], largest: int) -> None:
        raise OSError("no such wire")

    pipeline, told = PipelinedAppends(bus, most=2), dict[int, int]()
    with monkeypatch.context() as patched:
        patched.setattr(bus.nc, "publish_frames", fail)
        for place, append in enumerate(appends_to(bus, [0] * 2)):
            pipeline.add(append, partial(told.__setitem__, place))
        await pipeline.close()
    assert told == {0: UNKNOWN, 1: UNKNOWN}
    for place, append in enumerate(appends_to(bus, [0] * 2)):
        pipeline.add(append, partial(told.__setitem__, place))
    await pipeline.close()
    assert told == {0: 1, 1: 2}
