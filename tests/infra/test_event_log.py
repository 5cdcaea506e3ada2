"""One suite over every event log: what a service may rely on, whatever stands behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from itertools import chain
from pathlib import Path

import pytest
from eventsourcing.persistence import ApplicationRecorder
from eventsourcing.popo import POPOApplicationRecorder
from eventsourcing.sqlite import SQLiteFactory
from eventsourcing.utils import Environment

from penstock.contracts.envelope import Envelope
from penstock.contracts.errors import Conflict, InvalidMessage, Refused
from penstock.infra.bus import Bus
from penstock.infra.event_log import Durability, EventLog, JetStreamEventLog, Loaded, Recorded
from penstock.infra.recorder import RecorderEventLog
from penstock.infra.streams import event_stream
from penstock.infra.testing import shared_nats
from support.events import event

JETSTREAM = ["jetstream-fsync", "jetstream-os"]
RECORDERS = ["memory", "sqlite"]


@pytest.fixture(scope="session")
def syncing_nats_url() -> Iterator[str]:
    with shared_nats(durability="fsync") as url:
        yield url


@asynccontextmanager
async def over_jetstream(url: str, prefix: str, durability: Durability) -> AsyncIterator[EventLog]:
    async with await Bus.connect(url, prefix=prefix) as bus:
        config = event_stream(bus.subjects, "progress")
        await bus.api(f"STREAM.CREATE.{config['name']}", config)
        log = JetStreamEventLog(bus, "progress", durability=durability)
        yield log
        await log.close()


@asynccontextmanager
async def over_recorder(make: Callable[[], ApplicationRecorder]) -> AsyncIterator[EventLog]:
    log = RecorderEventLog(make(), poll=0.02)
    yield log
    await log.close()


@asynccontextmanager
async def over_sqlite(path: Path) -> AsyncIterator[EventLog]:
    environment = {"SQLITE_DBNAME": str(path), "ORIGINATOR_ID_TYPE": "text"}
    factory = SQLiteFactory(Environment("events", environment))
    async with over_recorder(factory.application_recorder) as log:
        yield log
    factory.close()


@pytest.fixture(params=[*JETSTREAM, *RECORDERS])
def opening(
    request: pytest.FixtureRequest, prefix: str, tmp_path: Path
) -> AbstractAsyncContextManager[EventLog]:
    match request.param:
        case "jetstream-fsync":
            url = request.getfixturevalue("syncing_nats_url")
            return over_jetstream(url, prefix, "fsync")
        case "jetstream-os":
            return over_jetstream(request.getfixturevalue("nats_url"), prefix, "os")
        case "memory":
            return over_recorder(POPOApplicationRecorder)
        case "sqlite":
            return over_sqlite(tmp_path / "events.sqlite")
    raise NotImplementedError(request.param)


@pytest.fixture
async def event_log(opening: AbstractAsyncContextManager[EventLog]) -> AsyncIterator[EventLog]:
    async with opening as log:
        yield log


def bodies(records: Loaded | list[Recorded]) -> list[Envelope]:
    return [r.event for r in (records.events if isinstance(records, Loaded) else records)]


async def take(records: AsyncIterator[Recorded], count: int) -> list[Recorded]:
    taken: list[Recorded] = []
    async with asyncio.timeout(60), aclosing(records) as stream:  # type: ignore[type-var]
        async for record in stream:
            taken.append(record)
            if len(taken) == count:
                break
    return taken


async def test_what_is_appended_is_loaded(event_log: EventLog) -> None:
    first = await event_log.append([event("a", 1)], expected=0)
    second = await event_log.append([event("a", 2)], expected=first.sequence)
    loaded = await event_log.load("a")
    assert bodies(loaded) == [event("a", 1), event("a", 2)]
    assert [r.sequence for r in loaded.events] == [first.sequence, second.sequence]
    assert loaded.sequence == second.sequence > first.sequence


async def test_an_unknown_aggregate_has_no_events_and_sequence_0(event_log: EventLog) -> None:
    assert await event_log.load("nobody") == Loaded((), 0)


async def test_loading_after_a_sequence_gives_what_is_beyond_it(event_log: EventLog) -> None:
    first = await event_log.append([event("a", 1)], expected=0)
    second = await event_log.append([event("a", 2)], expected=first.sequence)
    assert bodies(await event_log.load("a", after=first.sequence)) == [event("a", 2)]
    assert await event_log.load("a", after=second.sequence) == Loaded((), second.sequence)


async def test_aggregates_are_kept_apart_and_read_together_in_order(event_log: EventLog) -> None:
    stored = []
    for number in range(20):
        record = event(f"n{number % 5}", number // 5 + 1)
        last = (await event_log.load(record.subject)).sequence
        stored.append(record)
        await event_log.append([record], expected=last)
    everything = [r async for r in event_log.read()]
    assert bodies(everything) == stored
    sequences = [r.sequence for r in everything]
    assert sequences == sorted(set(sequences))
    assert bodies(await event_log.load("n3")) == [e for e in stored if e.subject == "n3"]


async def test_reading_after_a_sequence_gives_the_rest(event_log: EventLog) -> None:
    places = [(await event_log.append([event(f"r{i}")], expected=0)).sequence for i in range(5)]
    rest = [r.sequence async for r in event_log.read(after=places[2])]
    assert rest == places[3:]
    assert [r async for r in event_log.read(after=places[-1])] == []


async def test_reading_an_empty_log_ends_at_once(event_log: EventLog) -> None:
    assert [r async for r in event_log.read()] == []


async def test_a_long_aggregate_is_loaded_whole(event_log: EventLog) -> None:
    last = 0
    for start in range(1, 1201, 400):
        events = [event("long", version) for version in range(start, start + 400)]
        last = (await event_log.append(events, expected=last)).sequence
    loaded = await event_log.load("long")
    assert [e.version for e in bodies(loaded)] == list(range(1, 1201))
    assert loaded.sequence == last


async def test_following_gives_what_is_there_and_then_what_comes(event_log: EventLog) -> None:
    for number in range(3):
        await event_log.append([event(f"before{number}")], expected=0)
    following = asyncio.create_task(take(event_log.follow(), 6))
    for number in range(3):
        await event_log.append([event(f"after{number}")], expected=0)
    ids = [e.subject for e in bodies(await following)]
    assert ids == ["before0", "before1", "before2", "after0", "after1", "after2"]


async def test_following_after_a_sequence_begins_behind_it(event_log: EventLog) -> None:
    first = await event_log.append([event("a", 1)], expected=0)
    second = await event_log.append([event("a", 2)], expected=first.sequence)
    assert [r.sequence for r in await take(event_log.follow(after=first.sequence), 1)] == [
        second.sequence
    ]


@pytest.mark.parametrize("wrong", ["too low", "too high"])
async def test_another_expected_sequence_than_the_last_is_a_conflict(
    event_log: EventLog, wrong: str
) -> None:
    first = await event_log.append([event("a", 1)], expected=0)
    expected = 0 if wrong == "too low" else first.sequence + 1
    with pytest.raises(Conflict, match="'a' was changed by somebody else"):
        await event_log.append([event("a", 2, by="other")], expected=expected)
    assert bodies(await event_log.load("a")) == [event("a", 1)]


async def test_a_conflict_says_where_the_aggregate_stands(event_log: EventLog) -> None:
    first = await event_log.append([event("a", 1)], expected=0)
    for expected in (0, first.sequence + 1):
        with pytest.raises(Conflict) as caught:
            await event_log.append([event("a", 2, by="other")], expected=expected)
        assert caught.value.fields == {"expected": expected, "actual": first.sequence}


async def test_other_aggregates_do_not_conflict(event_log: EventLog) -> None:
    first = await event_log.append([event("a", 1)], expected=0)
    await event_log.append([event("b", 1)], expected=0)
    await event_log.append([event("a", 2)], expected=first.sequence)
    assert len((await event_log.load("a")).events) == 2


async def test_several_events_are_stored_all_or_none(event_log: EventLog) -> None:
    three = [event("a", version) for version in (1, 2, 3)]
    appended = await event_log.append(three, expected=0)
    loaded = await event_log.load("a")
    assert bodies(loaded) == three
    assert loaded.sequence == appended.sequence
    with pytest.raises(Conflict):
        await event_log.append([event("a", v, by="x") for v in (4, 5)], expected=0)
    assert bodies(await event_log.load("a")) == three


async def test_events_of_several_aggregates_are_not_one_append(event_log: EventLog) -> None:
    with pytest.raises(ValueError, match="one aggregate, not of 2"):
        await event_log.append([event("a"), event("b")], expected=0)
    with pytest.raises(ValueError, match="one aggregate, not of 0"):
        await event_log.append([], expected=0)


async def test_three_writers_on_one_aggregate_leave_no_gap_and_no_double(
    event_log: EventLog,
) -> None:
    each = 15

    async def write(writer: int) -> None:
        for number in range(each):
            by = f"w{writer}-{number}"
            while True:
                loaded = await event_log.load("contested")
                record = event("contested", len(loaded.events) + 1, by=by)
                try:
                    await event_log.append([record], expected=loaded.sequence, command_id=by)
                except Conflict:
                    continue
                break

    await asyncio.gather(*(write(writer) for writer in range(3)))
    stored = bodies(await event_log.load("contested"))
    assert [e.version for e in stored] == list(range(1, 3 * each + 1))
    assert {e.causationid for e in stored} == {
        f"w{writer}-{number}" for writer in range(3) for number in range(each)
    }


async def test_of_writers_at_the_same_sequence_exactly_one_is_let_in(event_log: EventLog) -> None:
    last = 0
    for version in range(1, 6):
        tried = await asyncio.gather(
            *(
                event_log.append([event("race", version, by=f"{version}/{w}")], expected=last)
                for w in range(3)
            ),
            return_exceptions=True,
        )
        assert sum(isinstance(result, Conflict) for result in tried) == 2
        last = (await event_log.load("race")).sequence
    assert [e.version for e in bodies(await event_log.load("race"))] == [1, 2, 3, 4, 5]


async def test_appending_the_same_events_again_tells_their_first_place(event_log: EventLog) -> None:
    pair = [event("a", 1, by="c-1"), event("a", 2, by="c-1")]
    first = await event_log.append(pair, expected=0, command_id="c-1")
    await event_log.append([event("a", 3, by="c-2")], expected=first.sequence)
    again = await event_log.append(pair, expected=0, command_id="c-1")
    assert (again.sequence, again.again, first.again) == (first.sequence, True, False)
    assert len((await event_log.load("a")).events) == 3


async def test_another_decision_on_the_same_command_is_not_stored_beside_the_first(
    event_log: EventLog,
) -> None:
    first = await event_log.append([event("a", 1, by="c-1")], expected=0, command_id="c-1")
    other = event("a", 2, by="c-1", text="decided elsewhere")
    assert (await event_log.append([other], expected=0, command_id="c-1")).again
    assert (await event_log.load("a")).sequence == first.sequence


async def test_a_command_finds_its_events_only_behind_the_sequence_that_it_expects(
    event_log: EventLog,
) -> None:
    first = await event_log.append([event("a", 1, by="c-1")], expected=0, command_id="c-1")
    for expected in (first.sequence + 1, first.sequence + 1000):
        with pytest.raises(Conflict):
            await event_log.append([event("a", 2, by="c-1")], expected=expected, command_id="c-1")


async def test_64_callers_at_a_time_each_get_their_own_place(event_log: EventLog) -> None:
    async def write(caller: int) -> list[tuple[int, Envelope]]:
        got, last = [], 0
        for version in range(1, 11):
            record = event(f"caller{caller}", version)
            last = (await event_log.append([record], expected=last)).sequence
            got.append((last, record))
        return got

    told = dict(chain.from_iterable(await asyncio.gather(*map(write, range(64)))))
    assert len(told) == 640
    assert told == {r.sequence: r.event async for r in event_log.read()}


@pytest.mark.parametrize(
    "id", ["a.b.c", "a b", "up/loads/1", "größe-日本", "*", ">", "%41", "~", "a\nb", "x" * 256]
)
async def test_any_text_is_an_id(event_log: EventLog, id: str) -> None:
    await event_log.append([event("plain")], expected=0)
    appended = await event_log.append([event(id, 1), event(id, 2)], expected=0)
    assert bodies(await event_log.load(id)) == [event(id, 1), event(id, 2)]
    assert bodies([r async for r in event_log.read()])[1:] == [event(id, 1), event(id, 2)]
    assert (await event_log.load(id)).sequence == appended.sequence


@pytest.mark.parametrize("id", ["", "x" * 257])
async def test_no_id_or_a_very_long_one_is_refused(event_log: EventLog, id: str) -> None:
    with pytest.raises(InvalidMessage, match="1 to 256 characters"):
        await event_log.append([event(id)], expected=0)


@pytest.mark.parametrize("opening", JETSTREAM, indirect=True)
@pytest.mark.parametrize("id", ["a", "a.b/c d"])
async def test_erasing_leaves_the_tombstone_alone_and_the_line_goes_on(
    event_log: EventLog, id: str
) -> None:
    first = await event_log.append([event(id, v, text="secret") for v in (1, 2)], expected=0)
    await event_log.append([event("b", 1)], expected=0)
    await event_log.erase(id, event(id, 3, by="erase"))
    left = await event_log.load(id)
    assert bodies(left) == [event(id, 3, by="erase")]
    assert bodies([r async for r in event_log.read()]) == [
        event("b", 1),
        event(id, 3, by="erase"),
    ]
    with pytest.raises(Conflict):
        await event_log.append([event(id, 3, by="late")], expected=first.sequence)
    await event_log.append([event(id, 4)], expected=left.sequence)
    assert len((await event_log.load(id)).events) == 2


@pytest.mark.parametrize("opening", JETSTREAM, indirect=True)
async def test_erasing_again_with_the_same_tombstone_adds_no_second(event_log: EventLog) -> None:
    await event_log.append([event("a", 1)], expected=0)
    await event_log.erase("a", event("a", 2, by="erase"))
    last = (await event_log.load("a")).sequence
    await event_log.append([event("a", 3)], expected=last)
    await event_log.erase("a", event("a", 2, by="erase"))
    assert [e.version for e in bodies(await event_log.load("a"))] == [2, 3]


@pytest.mark.parametrize("opening", RECORDERS, indirect=True)
async def test_a_recorder_that_cannot_erase_says_so(event_log: EventLog) -> None:
    await event_log.append([event("a", 1)], expected=0)
    with pytest.raises(Refused, match="'a' cannot be erased"):
        await event_log.erase("a", event("a", 2))
    assert bodies(await event_log.load("a")) == [event("a", 1)]
