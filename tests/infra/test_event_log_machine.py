"""Any sequence of calls: every event log does what a list and a few lines of Python would."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import pytest
from eventsourcing.popo import POPOApplicationRecorder
from eventsourcing.sqlite import SQLiteFactory
from eventsourcing.utils import Environment
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from penstock.contracts.envelope import Envelope
from penstock.contracts.errors import Conflict
from penstock.contracts.errors import Refused as CannotErase
from penstock.infra.bus import Bus
from penstock.infra.event_log import EventLog, JetStreamEventLog, Recorded
from penstock.infra.recorder import RecorderEventLog
from penstock.infra.streams import event_stream
from penstock.infra.testing import shared_nats
from support.events import event
from support.log_model import Attempt, LogModel, Refused, Stored, StoredBefore, Verdict
from support.proxy import Proxy

T = TypeVar("T")
LONGEST = 20.0  # seconds that one step may take
pytestmark = pytest.mark.timeout(420)  # what fails is made small first, for up to 5 minutes
LOSSES = 2  # lost replies of one run: each waits for a connection
# What fails is printed as the steps that lead there, and `print_blob` gives a line to repeat it.
SETTINGS = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)

aggregates = st.sampled_from(["a", "b", "c.d/e f"])
amounts = st.integers(1, 3)
offsets = st.sampled_from([0, 0, 0, 0, -2, -1, 1])  # from where the aggregate stands
picks = st.integers(0, 1000)
Opening = Callable[[], AbstractAsyncContextManager[EventLog]]


class LogMachine(RuleBasedStateMachine):
    """Drives a log and the model side by side, all of a run on one event loop."""

    def __init__(self, opening: Opening) -> None:
        super().__init__()
        self.model = LogModel()
        self.attempts: list[Attempt] = []  # as the clients made them
        self.commands = (f"c{number}" for number in count(1))
        # A factory of its own leaves the thread's current loop alone.
        self.runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self.opened = opening()
        self.log = self.run(self.opened.__aenter__())

    def teardown(self) -> None:
        self.run(self.opened.__aexit__(None, None, None))
        self.runner.close()

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(asyncio.wait_for(step, LONGEST))

    # -- appending ---------------------------------------------------------------------------

    def attempt(self, id: str, amount: int, offset: int) -> Attempt:
        """A new command's append, at an expected sequence beside the right one or at it."""
        by, version = next(self.commands), len(self.model.of(id)) + 1
        events = tuple(event(id, version + n, by=by) for n in range(amount))
        return Attempt(events, max(self.model.head(id) + offset, 0))

    async def answer(self, attempt: Attempt, log: EventLog) -> tuple[Attempt, Verdict, int]:
        try:
            appended = await log.append(
                attempt.events, expected=attempt.expected, command_id=attempt.command_id
            )
        except Conflict as conflict:
            assert conflict.fields["expected"] == attempt.expected
            return attempt, Refused(conflict.fields["actual"]), 0
        if appended.again:
            return attempt, StoredBefore(appended.sequence), appended.sequence
        return attempt, Stored(), appended.sequence

    def append_together(self, *attempts: Attempt) -> None:
        async def gathered() -> list[tuple[Attempt, Verdict, int]]:
            return list(await asyncio.gather(*(self.answer(a, self.log) for a in attempts)))

        self.model.together(self.run(gathered()))
        self.attempts += attempts

    @rule(id=aggregates, amount=amounts, offset=offsets)
    def append(self, id: str, amount: int, offset: int) -> None:
        self.append_together(self.attempt(id, amount, offset))

    @precondition(lambda self: self.attempts)
    @rule(pick=picks)
    def append_the_same_again(self, pick: int) -> None:
        self.append_together(self.attempts[pick % len(self.attempts)])

    @precondition(lambda self: self.attempts)
    @rule(pick=picks, amount=amounts)
    def decide_otherwise_on_the_same_command(self, pick: int, amount: int) -> None:
        before = self.attempts[pick % len(self.attempts)]
        if self.model.verdict(before) != Stored():  # else it is a first time
            self.append_together(other_decision(before, amount))

    @precondition(lambda self: self.attempts)
    @rule(pick=picks, place=picks)
    def append_the_same_at_another_place(self, pick: int, place: int) -> None:
        moved = Attempt(self.attempts[pick % len(self.attempts)].events, self.place(place))
        if self.model.verdict(moved) != Stored():  # who loads and finds it there appends nothing
            self.append_together(moved)

    @rule(id=aggregates, amounts=st.lists(amounts, min_size=2, max_size=3), offset=offsets)
    def append_at_the_same_place_at_once(self, id: str, amounts: list[int], offset: int) -> None:
        self.append_together(*(self.attempt(id, amount, offset) for amount in amounts))

    @rule(id=aggregates, amount=amounts, offset=offsets)
    def two_deliveries_of_one_command_at_once(self, id: str, amount: int, offset: int) -> None:
        first = self.attempt(id, amount, offset)
        self.append_together(first, first, other_decision(first, 1))

    @rule(many=st.lists(st.tuples(aggregates, amounts, offsets), min_size=2, max_size=6))
    def append_to_several_at_once(self, many: list[tuple[str, int, int]]) -> None:
        self.append_together(*(self.attempt(*one) for one in many))

    # -- reading -----------------------------------------------------------------------------

    def place(self, pick: int) -> int:
        return pick % (self.model.last() + 2)

    @rule(id=aggregates, pick=picks)
    def load_after(self, id: str, pick: int) -> None:
        after = self.place(pick)
        loaded = self.run(self.log.load(id, after=after))
        assert list(loaded.events) == self.model.of(id, after)
        if loaded.events:
            assert loaded.sequence == self.model.head(id)

    @rule(pick=picks)
    def read_after(self, pick: int) -> None:
        after = self.place(pick)
        read = self.run(listed(self.log.read(after=after)))
        assert read == [r for r in self.model.records if r.sequence > after]

    @rule(pick=picks, id=aggregates, amount=amounts)
    def follow_for_a_moment(self, pick: int, id: str, amount: int) -> None:
        after = min(self.place(pick), self.model.last())
        wanted = sum(r.sequence > after for r in self.model.records) + amount

        async def follow() -> list[Recorded]:
            following = asyncio.create_task(listed(self.log.follow(after=after), wanted))
            self.model.together([await self.answer(self.attempt(id, amount, 0), self.log)])
            return await following

        assert self.run(follow()) == [r for r in self.model.records if r.sequence > after]

    @invariant()
    def the_log_is_the_model(self) -> None:
        assert self.run(listed(self.log.read())) == self.model.records


class RecorderMachine(LogMachine):
    """The library's recorders cannot erase."""

    @rule(id=aggregates)
    def erasing_is_refused(self, id: str) -> None:
        tombstone = event(id, by=next(self.commands))
        with pytest.raises(CannotErase):
            self.run(self.log.erase(id, tombstone))


class JetStreamMachine(LogMachine):
    """JetStream can erase, and its replies can be lost: `cut` is the same log through `proxy`."""

    def __init__(self, opening: Opening, cutting: Callable[[EventLog], Any]) -> None:
        super().__init__(opening)
        self.losses = 0
        self.erased: list[Envelope] = []
        self.cutting = cutting(self.log)
        self.proxy: Proxy
        self.cut: EventLog
        self.proxy, self.cut = self.run(self.cutting.__aenter__())

    def teardown(self) -> None:
        self.run(self.cutting.__aexit__(None, None, None))
        super().teardown()

    @rule(id=aggregates)
    def erase(self, id: str) -> None:
        tombstone = event(id, len(self.model.of(id)) + 1, by=next(self.commands))
        self.run(self.log.erase(id, tombstone))
        place = self.run(self.log.load(id)).sequence
        self.model.store([tombstone], place)
        self.model.erase(id, before=place)
        self.erased.append(tombstone)

    @precondition(lambda self: self.erased)
    @rule(pick=picks)
    def erase_again(self, pick: int) -> None:
        tombstone = self.erased[pick % len(self.erased)]
        places = [r.sequence for r in self.model.records if r.event == tombstone]
        if places:  # a later erasure has not taken it away
            self.run(self.log.erase(tombstone.subject, tombstone))
            self.model.erase(tombstone.subject, before=places[0])

    @precondition(lambda self: self.losses < LOSSES)
    @rule(many=st.lists(st.tuples(aggregates, amounts, offsets), min_size=1, max_size=4))
    def lose_a_reply_to_appends(self, many: list[tuple[str, int, int]]) -> None:
        self.losses += 1
        self.proxy.lose, self.proxy.cut_then = b'"seq":', True
        self.proxy.lost.clear()
        attempts = [self.attempt(*one) for one in many]

        async def gathered() -> list[tuple[Attempt, Verdict, int]]:
            return list(await asyncio.gather(*(self.answer(a, self.cut) for a in attempts)))

        answered = self.run(gathered())
        assert self.proxy.lost.is_set()
        # The commands are new: what is found stored, was so by the try whose reply was lost.
        self.model.together(
            (attempt, Stored() if isinstance(verdict, StoredBefore) else verdict, last)
            for attempt, verdict, last in answered
        )
        self.attempts += attempts


def other_decision(before: Attempt, amount: int) -> Attempt:
    """Other events for the same command, as another instance may decide."""
    assert before.command_id
    events = tuple(
        event(before.id, 50 + n, by=before.command_id, text="decided elsewhere")
        for n in range(amount)
    )
    return Attempt(events, before.expected)


async def listed(records: AsyncIterator[Recorded], most: int | None = None) -> list[Recorded]:
    taken: list[Recorded] = []
    async with aclosing(records) as stream:  # type: ignore[type-var]
        async for record in stream:
            taken.append(record)
            if len(taken) == most:
                break
    return taken


def run_machine(make: Callable[[], LogMachine]) -> None:
    # It is declared for a class, and calls what it is given.
    run_state_machine_as_test(make, settings=SETTINGS)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def syncing_nats_url() -> Any:
    with shared_nats(durability="fsync") as url:
        yield url


@pytest.mark.parametrize("durability", ["fsync", "os"])
def test_jetstream_does_what_the_model_does(
    request: pytest.FixtureRequest, durability: Any
) -> None:
    url = request.getfixturevalue("syncing_nats_url" if durability == "fsync" else "nats_url")

    @asynccontextmanager
    async def opening() -> AsyncIterator[EventLog]:
        async with await Bus.connect(url, prefix=f"t{uuid.uuid4().hex[:8]}") as bus:
            config = event_stream(bus.subjects, "progress")
            await bus.api(f"STREAM.CREATE.{config['name']}", config)
            log = JetStreamEventLog(bus, "progress", durability=durability)
            yield log
            await log.close()
            await bus.api(f"STREAM.DELETE.{config['name']}")

    @asynccontextmanager
    async def cutting(log: EventLog) -> AsyncIterator[tuple[Proxy, EventLog]]:
        assert isinstance(log, JetStreamEventLog)
        prefix = log.bus.subjects.prefix
        async with Proxy(url) as proxy, await Bus.connect(proxy.url, prefix=prefix) as bus:
            cut = JetStreamEventLog(bus, "progress", durability=durability)
            yield proxy, cut
            await cut.close()

    run_machine(lambda: JetStreamMachine(opening, cutting))


@pytest.mark.parametrize("recorder", ["memory", "sqlite"])
def test_a_recorder_of_the_library_does_what_the_model_does(recorder: str) -> None:
    @asynccontextmanager
    async def opening() -> AsyncIterator[EventLog]:
        with TemporaryDirectory() as directory:
            environment = {
                "SQLITE_DBNAME": str(Path(directory) / "events.sqlite"),
                "ORIGINATOR_ID_TYPE": "text",
            }
            factory = SQLiteFactory(Environment("events", environment))
            made = (
                factory.application_recorder()
                if recorder == "sqlite"
                else POPOApplicationRecorder()
            )
            log = RecorderEventLog(made, poll=0.02)
            yield log
            await log.close()
            factory.close()

    run_machine(lambda: RecorderMachine(opening))
