"""Batches of several who have one each, on a real server: told apart whatever becomes of them."""

from __future__ import annotations

import asyncio

import pytest

from penstock.contracts.errors import TooLarge
from penstock.contracts.subjects import EXPECTED, MSG_ID
from penstock.infra.append_many import FEW
from penstock.infra.bus import Bus, Message, StreamError
from penstock.infra.commit import MAX_BATCH
from penstock.infra.shared_batches import SharedBatches


@pytest.fixture
def batches(bus: Bus) -> SharedBatches:
    return SharedBatches(bus, timeout=10, in_flight=1)


def part(bus: Bus, name: str, count: int, expected: int = 0) -> list[Message]:
    subjects = (bus.subjects.event("progress", f"{name}-{n}") for n in range(count))
    return [(subject, name.encode(), {EXPECTED: str(expected)}) for subject in subjects]


async def bodies(bus: Bus) -> list[str]:
    """What is stored, in order."""
    request = {"seq": 1, "next_by_subj": bus.subjects.events("progress"), "batch": 5000}
    found = await bus.direct_get(bus.subjects.event_stream("progress"), request)
    return [message.data.decode() for message in found]


async def test_each_gets_the_sequence_of_its_own_last_message(
    bus: Bus, batches: SharedBatches
) -> None:
    counts = {"a": 3, "b": 5, "c": 1, "d": 300}
    last = await asyncio.gather(
        *(batches.publish(part(bus, name, count)) for name, count in counts.items())
    )
    stored = await bodies(bus)
    assert len(stored) == sum(counts.values())
    for (name, count), sequence in zip(counts.items(), last, strict=True):
        assert stored[sequence - count : sequence] == [name] * count


async def test_more_than_fits_into_one_batch_goes_in_several(
    bus: Bus, batches: SharedBatches
) -> None:
    names = "abcdef"
    await asyncio.gather(*(batches.publish(part(bus, name, MAX_BATCH // 2)) for name in names))
    assert len(await bodies(bus)) == len(names) * MAX_BATCH // 2


async def test_one_that_is_refused_keeps_no_other_back(bus: Bus, batches: SharedBatches) -> None:
    told = await asyncio.gather(
        *(batches.publish(part(bus, name, 4, expected=7 * (name == "b"))) for name in "abcd"),
        return_exceptions=True,
    )
    assert [isinstance(one, StreamError) for one in told] == [False, True, False, False]
    assert sorted(await bodies(bus)) == sorted("aaaaccccdddd")


async def test_two_with_a_subject_in_common_do_not_pass_together(
    bus: Bus, batches: SharedBatches
) -> None:
    told = await asyncio.gather(
        batches.publish(part(bus, "first", 2)),
        batches.publish(part(bus, "same", 4)),
        batches.publish(part(bus, "same", 2)),
        return_exceptions=True,
    )
    assert isinstance(told[2], StreamError)
    assert len(await bodies(bus)) == 6


async def test_what_is_too_much_for_a_batch_is_refused_by_itself(
    bus: Bus, batches: SharedBatches
) -> None:
    with pytest.raises(TooLarge):
        await batches.publish(part(bus, "many", MAX_BATCH + 1))
    assert await batches.publish(part(bus, "few", 2)) == 2


@pytest.mark.parametrize("count", [FEW // 2, 20 * FEW])
async def test_single_messages_are_told_apart_few_or_many(
    bus: Bus, batches: SharedBatches, count: int
) -> None:
    names = [f"n{n}" for n in range(count)]
    last = await asyncio.gather(*(batches.publish(part(bus, name, 1)) for name in names))
    stored = await bodies(bus)
    assert [stored[sequence - 1] for sequence in last] == names


async def test_one_that_was_stored_before_keeps_no_other_single_message_back(
    bus: Bus, batches: SharedBatches
) -> None:
    def offer(n: int) -> list[Message]:
        return [(bus.subjects.event("progress", f"j{n}"), b"%d" % n, {MSG_ID: f"j{n}"})]

    await batches.publish(offer(3))
    await asyncio.gather(*(batches.publish(offer(n)) for n in range(3 * FEW)))
    assert sorted(map(int, await bodies(bus))) == list(range(3 * FEW))
