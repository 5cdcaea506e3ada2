"""Many appends at once: each is stored or not, whatever becomes of the others."""

from __future__ import annotations

import uuid

import pytest

from penstock.infra.append_many import AT_ONCE, FEW, UNKNOWN, Append, append_many
from penstock.infra.bus import Bus
from penstock.infra.streams import event_store


@pytest.fixture
async def stream(bus: Bus) -> str:
    name = f"M{uuid.uuid4().hex[:8]}"
    await bus.api(f"STREAM.CREATE.{name}", event_store(name, [f"{name}.>"], 1))
    return name


@pytest.mark.parametrize("count", [0, 1, FEW, AT_ONCE, AT_ONCE + 1])
async def test_all_are_stored_in_their_order(bus: Bus, stream: str, count: int) -> None:
    appends = [Append(f"{stream}.{n}", b"%d" % n, 0) for n in range(count)]
    sequences = await append_many(bus, appends)
    assert sequences == sorted(set(sequences)) and len(sequences) == count
    for append, sequence in list(zip(appends, sequences, strict=True))[-3:]:
        [found] = await bus.direct_get(stream, {"seq": sequence})
        assert (found.subject, found.data) == (append.subject, append.body)


@pytest.mark.parametrize("count", [3, 3 * FEW])
async def test_one_that_is_refused_keeps_no_other_from_being_stored(
    bus: Bus, stream: str, count: int
) -> None:
    await append_many(bus, [Append(f"{stream}.1", b"somebody was quicker", 0)])
    sequences = await append_many(bus, [Append(f"{stream}.{n}", b"x", 0) for n in range(count)])
    assert [n for n, sequence in enumerate(sequences) if sequence == UNKNOWN] == [1]
    info = await bus.api(f"STREAM.INFO.{stream}")
    assert info["state"]["messages"] == count


async def test_large_ones_go_in_several_batches(bus: Bus, stream: str) -> None:
    appends = [Append(f"{stream}.{n}", b"x" * 500_000, 0) for n in range(20)]
    assert UNKNOWN not in await append_many(bus, appends)


async def test_behind_an_event_the_next_one_follows(bus: Bus, stream: str) -> None:
    first = await append_many(bus, [Append(f"{stream}.{n}", b"1", 0) for n in range(FEW)])
    then = [Append(f"{stream}.{n}", b"2", sequence) for n, sequence in enumerate(first)]
    assert UNKNOWN not in await append_many(bus, then)
    assert await append_many(bus, then) == [UNKNOWN] * FEW
