"""How appends reach a stream: what goes together, what is taken apart, and what is refused."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from penstock.contracts.errors import Timeout, TooLarge, Unavailable
from penstock.infra.bus import Bus, StreamError
from penstock.infra.commit import Commit, SingleCommit
from penstock.infra.group_commit import FEW, GroupCommit
from support.proxy import Proxy


@pytest.fixture(params=[GroupCommit, SingleCommit])
def commit(request: pytest.FixtureRequest, bus: Bus) -> Commit:
    made: Commit = request.param(bus, timeout=10)
    return made


@pytest.fixture
def group(bus: Bus) -> GroupCommit:
    return GroupCommit(bus, timeout=10)


@pytest.fixture
def subject(bus: Bus) -> Callable[[object], str]:
    return lambda id: bus.subjects.event("progress", f"id-{id}")


async def stored(bus: Bus) -> dict[int, tuple[str, bytes]]:
    """Everything in the stream, by sequence: the aggregate's token, and the body."""
    found: dict[int, tuple[str, bytes]] = {}
    while True:
        request = {
            "seq": max(found, default=0) + 1,
            "next_by_subj": bus.subjects.events("progress"),
            "batch": 1000,
        }
        batch = await bus.direct_get(bus.subjects.event_stream("progress"), request)
        found |= {m.sequence: (m.subject.rpartition(".")[2], m.data) for m in batch}
        if not batch or not batch[-1].pending:
            return found


async def test_each_append_gets_the_sequence_of_its_last_message(
    commit: Commit, bus: Bus, subject: Callable[[object], str]
) -> None:
    counts = [1, 3, 1, 2, 5, 1]
    sequences = await asyncio.gather(
        *(
            commit.append(subject(i), [b"%d/%d" % (i, n) for n in range(count)], 0)
            for i, count in enumerate(counts)
        )
    )
    in_stream = await stored(bus)
    assert len(in_stream) == sum(counts)
    for i, (count, sequence) in enumerate(zip(counts, sequences, strict=True)):
        for n in range(count):
            assert in_stream[sequence - count + 1 + n] == (f"id-{i}", b"%d/%d" % (i, n))


async def test_more_than_one_batch_holds_is_stored_all_the_same(
    commit: Commit, bus: Bus, subject: Callable[[object], str]
) -> None:
    sequences = await asyncio.gather(
        *(commit.append(subject(i), [b"%d" % i], 0) for i in range(2500))
    )
    in_stream = await stored(bus)
    assert [in_stream[sequence] for sequence in sequences] == [
        (f"id-{i}", b"%d" % i) for i in range(2500)
    ]


async def test_large_bodies_are_spread_over_batches(
    commit: Commit, bus: Bus, subject: Callable[[object], str]
) -> None:
    megabyte = bytes(1024 * 1024)
    await asyncio.gather(*(commit.append(subject(i), [megabyte, b"end"], 0) for i in range(12)))
    assert sum(len(body) for _, body in (await stored(bus)).values()) == 12 * (2**20 + 3)


async def test_what_is_refused_does_not_hold_back_the_rest(
    commit: Commit, bus: Bus, subject: Callable[[object], str]
) -> None:
    results = await asyncio.gather(
        *(commit.append(subject(i), [b"%d" % i], 7 if i == 5 else 0) for i in range(10)),
        commit.append(subject("huge"), [bytes(bus.nc.max_payload)], 0),
        return_exceptions=True,
    )
    assert isinstance(results[5], StreamError)
    assert results[5].err_code == 10071
    assert isinstance(results[10], TooLarge)
    assert sorted((await stored(bus)).values()) == [
        (f"id-{i}", b"%d" % i) for i in range(10) if i != 5
    ]


async def test_an_append_with_one_message_too_large_stores_none_of_its_messages(
    commit: Commit, bus: Bus, subject: Callable[[object], str]
) -> None:
    with pytest.raises(TooLarge):
        await commit.append(subject(1), [b"small", bytes(bus.nc.max_payload), b"small"], 0)
    assert await commit.append(subject(1), [b"a", b"b"], 0) == 2
    assert bus.connections == 1


async def test_an_append_of_more_events_than_a_batch_holds_is_refused(
    commit: Commit, bus: Bus, subject: Callable[[object], str]
) -> None:
    with pytest.raises(TooLarge, match="at most 1000 events, this one 1001"):
        await commit.append(subject(1), [b""] * 1001, 0)
    assert await commit.append(subject(1), [b""] * 1000, 0) == 1000


async def test_appends_to_one_subject_keep_their_order(
    group: GroupCommit, bus: Bus, subject: Callable[[object], str]
) -> None:
    # In an empty stream the expected sequences are known before: 0, 1, 2, ...
    appends = (group.append(subject("one"), [b"%d" % i], i) for i in range(20))
    assert await asyncio.gather(*appends) == list(range(1, 21))
    assert [body for _, body in (await stored(bus)).values()] == [b"%d" % i for i in range(20)]


async def test_what_waits_is_bounded(bus: Bus, subject: Callable[[object], str]) -> None:
    group = GroupCommit(bus, timeout=10, max_waiting=5)
    results = await asyncio.gather(
        *(group.append(subject(i), [b""], 0) for i in range(8)), return_exceptions=True
    )
    assert [type(result) for result in results] == [int] * 5 + [Unavailable] * 3
    assert isinstance(await group.append(subject("later"), [b""], 0), int)


async def test_an_append_that_nobody_waits_for_any_more_is_not_sent(
    group: GroupCommit, bus: Bus, subject: Callable[[object], str]
) -> None:
    first = asyncio.create_task(group.append(subject("first"), [b""], 0))
    given_up = asyncio.create_task(group.append(subject("given-up"), [b""], 0))
    await asyncio.sleep(0)  # both wait now; the batch is made in the next round of the loop
    given_up.cancel()
    await first
    assert [token for token, _ in (await stored(bus)).values()] == ["id-first"]
    assert isinstance(await group.append(subject("given-up"), [b""], 0), int)


async def test_closing_waits_for_what_is_under_way(
    group: GroupCommit, bus: Bus, subject: Callable[[object], str]
) -> None:
    appends = [asyncio.create_task(group.append(subject(i), [b""], 0)) for i in range(10)]
    await asyncio.sleep(0)
    await group.close()
    assert len(await stored(bus)) == 10
    await asyncio.gather(*appends)


async def test_no_room_for_another_batch_is_said_and_nothing_is_stored(
    commit: Commit, bus: Bus, subject: Callable[[object], str]
) -> None:
    for number in range(60):  # more than the server keeps open for a stream, none of them ended
        headers = {"Nats-Batch-Id": f"open-{number}", "Nats-Batch-Sequence": "1"}
        await bus.publish(subject(f"open-{number}"), b"", headers)
    with pytest.raises(Unavailable, match="too many batches open"):
        await commit.append(subject(1), [b"a", b"b"], 0)
    assert await stored(bus) == {}
    assert await commit.append(subject(1), [b"by itself"], 0) == 1


async def batches(bus: Bus) -> list[str | None]:
    """The batch in which each message was stored, in the order of the stream."""
    request = {"seq": 1, "next_by_subj": bus.subjects.events("progress"), "batch": 1000}
    found = await bus.direct_get(bus.subjects.event_stream("progress"), request)
    return [message.headers.get("Nats-Batch-Id") for message in found]


async def test_few_appends_go_one_by_one_and_many_in_one_batch(
    group: GroupCommit, bus: Bus, subject: Callable[[object], str]
) -> None:
    await asyncio.gather(*(group.append(subject(i), [b""], 0) for i in range(FEW)))
    assert await batches(bus) == [None] * FEW
    await asyncio.gather(*(group.append(subject(f"many-{i}"), [b""], 0) for i in range(64)))
    together = (await batches(bus))[FEW:]
    assert len(together) == 64
    assert len(set(together)) == 1 and together[0]


async def test_those_just_answered_come_back_into_one_batch_with_those_that_waited(
    group: GroupCommit, bus: Bus, subject: Callable[[object], str]
) -> None:
    async def writer(name: str, times: int) -> None:
        for number in range(times):
            await group.append(subject(f"{name}-{number}"), [b""], 0)

    early = asyncio.gather(*(writer(f"early-{i}", 3) for i in range(20)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # the first batch is on its way, and these wait for it
    late = asyncio.gather(*(writer(f"late-{i}", 2) for i in range(20)))
    await asyncio.gather(early, late)
    sizes = Counter(await batches(bus))
    assert list(sizes.values()) == [20, 40, 40]


async def test_what_waited_too_long_is_not_sent_and_says_so(
    bus: Bus, cut_bus: Bus, proxy: Proxy, subject: Callable[[object], str]
) -> None:
    group = GroupCommit(cut_bus, timeout=0.2)
    proxy.lose = b'"seq":'
    first = [asyncio.create_task(group.append(subject(i), [b""], 0)) for i in range(20)]
    await proxy.lost.wait()  # they are stored, but nobody is told
    waiting = asyncio.create_task(group.append(subject("waiting"), [b""], 0))
    results = await asyncio.gather(*first, waiting, return_exceptions=True)
    assert {type(result) for result in results[:20]} == {Timeout}
    assert type(results[20]) is Unavailable
    assert len(await stored(bus)) == 20
    assert isinstance(await group.append(subject("waiting"), [b""], 0), int)


async def test_closing_waits_also_for_few_that_went_one_by_one(
    group: GroupCommit, bus: Bus, subject: Callable[[object], str]
) -> None:
    appends = [asyncio.create_task(group.append(subject(i), [b""], 0)) for i in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await group.close()
    assert len(await stored(bus)) == 3
    await asyncio.gather(*appends)
