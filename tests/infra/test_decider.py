"""The write side on a real server: a crash after any step is finished by the next delivery."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from penstock.contracts.envelope import Envelope, wrap
from penstock.contracts.errors import NotFound, Unavailable
from penstock.contracts.progress import CreateProgress, ProgressState, UpdateProgress
from penstock.infra.bus import Bus
from penstock.infra.decider import Aggregate, Decider
from penstock.infra.event_log import JetStreamEventLog
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


async def test_an_effect_that_a_crash_left_out_is_made_up_for(log: JetStreamEventLog) -> None:
    effects = Effects(failures=1)
    with pytest.raises(Unavailable):
        await Decider(log, decide, evolve, effect=effects).handle(create())
    assert len((await log.load("p")).events) == 1
    outcome = await Decider(log, decide, evolve, effect=effects).handle(create())
    assert effects.seen == [("c-create", outcome.sequence)]
    assert len((await log.load("p")).events) == 1


async def test_a_command_seen_again_is_answered_as_before_by_any_instance(
    log: JetStreamEventLog,
) -> None:
    one, other = Decider(log, decide, evolve), Decider(log, decide, evolve)
    await one.handle(create())
    first = await one.handle(update(10, "c-10"))
    await one.handle(update(20, "c-20"))
    for decider in (one, other):
        again = await decider.handle(update(10, "c-10"))
        assert (again.sequence, again.data) == (first.sequence, first.data)
    assert len((await log.load("p")).events) == 3


async def test_instances_that_decide_at_once_lose_nothing(log: JetStreamEventLog) -> None:
    instances = [Decider(log, decide, evolve) for _ in range(3)]
    await instances[0].handle(create())
    commands = [update(n, f"c-{n}") for n in range(1, 31)]
    await asyncio.gather(*(instances[n % 3].handle(command) for n, command in enumerate(commands)))
    events = (await log.load("p")).events
    assert [record.event.version for record in events] == list(range(1, 32))
    assert {record.event.causationid for record in events[1:]} == {c.id for c in commands}


async def test_a_refusal_stores_nothing(log: JetStreamEventLog) -> None:
    with pytest.raises(NotFound):
        await Decider(log, decide, evolve).handle(update(1, "c-1", id="none"))
    assert (await log.load("none")).sequence == 0
