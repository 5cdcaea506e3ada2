"""The write side on a real server: a crash after any step is finished by the next delivery."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import json

from penstock.contracts.answers import Outcome
from penstock.contracts.envelope import Envelope, wrap
from penstock.contracts.errors import InvalidMessage, NotFound, Refused, Unavailable
from penstock.contracts.progress import (
    CleanupProgress,
    CreateProgress,
    ProgressState,
    UpdateProgress,
)
from penstock.infra.bus import Bus
from penstock.infra.deciding.decider import Aggregate, Decider
from penstock.infra.deciding.decisions import Decisions
from penstock.infra.event_log import JetStreamEventLog, Loaded
from penstock.infra.streams import event_stream
from penstock.progress.domain import decide, evolve

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


@pytest.fixture
async def log(nats_url: str, prefix: str) -> AsyncIterator[JetStreamEventLog]:
    async with await Bus.connect(nats_url, prefix=prefix) as bus:
        config = event_stream(bus.subjects, "progress")
        await bus.api(f"STREAM.CREATE.{config['name']}", config)
        log = JetStreamEventLog(bus, "progress")
        yield log
        await log.close()


def create(id: str = "p", command_id: str = "c-create") -> Envelope:
    return wrap(CreateProgress(), id=command_id, subject=id, time=NOW, correlationid="f")


def update(percent: float, command_id: str, id: str = "p") -> Envelope:
    command = UpdateProgress(percent=percent)
    return wrap(command, id=command_id, subject=id, time=NOW, correlationid="f")


def clean_up(command_id: str) -> Envelope:
    return wrap(CleanupProgress(), id=command_id, subject="p", time=NOW, correlationid="f")


def a_decider(log: JetStreamEventLog, **options: Any) -> Decider[ProgressState]:
    return Decider(log, decide, evolve, Decisions(log), **options)


class Effects:
    """An effect that fails so many times, as it does when the process dies there."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.seen: list[tuple[str, int]] = []

    async def __call__(self, aggregate: Aggregate[ProgressState], command: Envelope) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("lost between the append and its effect")
        self.seen.append((command.id, aggregate.sequence))


class LaggingLog(JetStreamEventLog):
    """Reads as from replicas of which some are behind: `ends` are where they end, one a reading."""

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus, "progress")
        self.ends: list[int | None] = []

    async def load(self, id: str, *, after: int = 0) -> Loaded:
        loaded = await super().load(id, after=after)
        end = self.ends.pop(0) if self.ends else None
        if end is None:
            return loaded
        seen = tuple(record for record in loaded.events if record.sequence <= end)
        return Loaded(seen, seen[-1].sequence if seen else after)


async def test_what_a_lagging_replica_does_not_have_yet_is_not_taken_for_archived(
    log: JetStreamEventLog,
) -> None:
    lagging = LaggingLog(log.bus)
    decider = a_decider(lagging)
    created = await decider.handle(create())
    updated = await decider.handle(update(10, "c-10"))
    lagging.ends = [created.sequence]
    with pytest.raises(Unavailable):
        await decider.handle(update(10, "c-10"))
    assert await decider.handle(update(10, "c-10")) == updated
    await lagging.close()


async def test_what_another_instance_stored_meanwhile_is_acted_on_once_it_can_be_read(
    log: JetStreamEventLog,
) -> None:
    quicker = a_decider(log)

    async def be_slow(data: object, load: object, command: Envelope) -> None:
        await quicker.handle(command)

    lagging, effects = LaggingLog(log.bus), Effects(failures=0)
    slower = a_decider(lagging, effect=effects, look_up=be_slow)
    lagging.ends = [None, 0]  # what came behind the head; what there is now
    with pytest.raises(Unavailable):
        await slower.handle(create())
    assert (lagging.ends, effects.seen) == ([], [])
    outcome = await slower.handle(create())
    assert effects.seen == [("c-create", outcome.sequence)]
    await lagging.close()


async def test_an_effect_that_a_crash_left_out_is_made_up_for(log: JetStreamEventLog) -> None:
    effects = Effects(failures=1)
    with pytest.raises(Unavailable):
        await a_decider(log, effect=effects).handle(create())
    assert len((await log.load("p")).events) == 1
    outcome = await a_decider(log, effect=effects).handle(create())
    assert effects.seen == [("c-create", outcome.sequence)]
    assert len((await log.load("p")).events) == 1


async def test_a_command_seen_again_is_answered_as_before_by_any_instance(
    log: JetStreamEventLog,
) -> None:
    one, other = a_decider(log), a_decider(log)
    await one.handle(create())
    first = await one.handle(update(10, "c-10"))
    await one.handle(update(20, "c-20"))
    for decider in (one, other):
        again = await decider.handle(update(10, "c-10"))
        assert (again.sequence, again.data) == (first.sequence, first.data)
    assert len((await log.load("p")).events) == 3


async def test_instances_that_decide_at_once_lose_nothing(log: JetStreamEventLog) -> None:
    instances = [a_decider(log) for _ in range(3)]
    await instances[0].handle(create())
    commands = [update(n, f"c-{n}") for n in range(1, 31)]
    await asyncio.gather(*(instances[n % 3].handle(command) for n, command in enumerate(commands)))
    events = (await log.load("p")).events
    assert [record.event.version for record in events] == list(range(1, 32))
    assert {record.event.causationid for record in events[1:]} == {c.id for c in commands}


async def test_a_refusal_stores_no_event(log: JetStreamEventLog) -> None:
    with pytest.raises(NotFound):
        await a_decider(log).handle(update(1, "c-1", id="none"))
    assert (await log.load("none")).sequence == 0


async def test_a_refused_command_stays_refused_also_when_it_would_be_possible_now(
    log: JetStreamEventLog,
) -> None:
    for decider in (a_decider(log), a_decider(log)):
        with pytest.raises(NotFound, match="There is no progress 'p'"):
            await decider.handle(update(10, "c-10"))
        await decider.handle(create())
    assert len((await log.load("p")).events) == 1


async def test_a_refusal_is_taken_back_when_the_command_is_to_be_decided_anew(
    log: JetStreamEventLog,
) -> None:
    with pytest.raises(NotFound):
        await a_decider(log).handle(update(10, "c-10"))
    await a_decider(log).handle(create())
    done = await a_decider(log).handle(update(10, "c-10"), anew=True)
    assert (await a_decider(log).handle(update(10, "c-10"))).sequence == done.sequence
    assert len((await log.load("p")).events) == 2


async def test_a_command_that_keeps_its_id_and_says_something_else_is_another(
    log: JetStreamEventLog,
) -> None:
    await a_decider(log).handle(create())
    with pytest.raises(InvalidMessage):
        wrong = UpdateProgress(percent=10, stage="no such")
        await a_decider(log).handle(
            wrap(wrong, id="c-10", subject="p", time=NOW, correlationid="f")
        )
    assert (await a_decider(log).handle(update(10, "c-10"))).problem is None


async def test_a_command_that_changed_nothing_changes_nothing_later(
    log: JetStreamEventLog,
) -> None:
    one, other = a_decider(log), a_decider(log)
    await one.handle(create())
    first = await one.handle(create(command_id="c-again"))
    await other.handle(clean_up("c-clean"))
    again = await other.handle(create(command_id="c-again"))
    assert (again.sequence, again.data) == (first.sequence, first.data)
    assert len((await log.load("p")).events) == 2


async def test_no_instance_answers_from_what_it_remembers_alone(log: JetStreamEventLog) -> None:
    one, other = a_decider(log), a_decider(log)
    await one.handle(create())
    await other.handle(clean_up("c-clean"))
    with pytest.raises(Refused, match="cleaned up"):
        await one.handle(update(10, "c-10"))


async def test_what_one_instance_has_yet_to_see_of_another_is_read_and_not_guessed(
    log: JetStreamEventLog,
) -> None:
    one, other = a_decider(log), a_decider(log)
    await one.handle(create())
    for number in range(5):
        await other.handle(update(number, f"c-{number}"))
    outcome = await one.handle(update(50, "c-50"))
    assert json.decode(outcome.data, type=ProgressState).percent == 50
    assert [r.event.version for r in (await log.load("p")).events] == [1, 2, 3, 4, 5, 6, 7]


async def test_copies_of_what_others_carry_out_are_answered_without_doing_it_again(
    log: JetStreamEventLog,
) -> None:
    done: list[str] = []

    async def carry_out(command: Envelope, data: CleanupProgress) -> Outcome:
        if not done:
            done.append("failed")
            raise Unavailable("for now")
        done.append(command.id)
        await asyncio.sleep(0.05)
        return Outcome(id=command.id, sequence=7)

    decider = a_decider(log, own={CleanupProgress: carry_out})
    with pytest.raises(Unavailable):
        await decider.handle(clean_up("c"))
    copies = await asyncio.gather(*(decider.handle(clean_up("c")) for _ in range(20)))
    assert copies == [Outcome(id="c", sequence=7)] * 20
    await decider.handle(clean_up("d"))
    assert done == ["failed", "c", "d"]
