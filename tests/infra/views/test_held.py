"""An event that cannot be folded holds back its own aggregate, says so, and no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import apsw
import msgspec
import pytest

from penstock.contracts.answers import Answer, ById
from penstock.contracts.dead import Found, Letters, Settled
from penstock.contracts.envelope import Envelope, encode, wrap
from penstock.contracts.errors import Unavailable
from penstock.contracts.lifecycle import ERASED
from penstock.contracts.progress import SERVICE, ProgressCreated, ProgressState
from penstock.infra.bus import Bus
from penstock.infra.dead_letters.office import DeadLetterOffice
from penstock.infra.dead_letters.redriving import Redriving
from penstock.infra.host import Host
from penstock.infra.service import Frame, Service
from penstock.infra.streams import provision
from penstock.infra.testing import running_system
from penstock.infra.views.view import Ended, Folded
from penstock.progress.domain import decide, evolve
from penstock.progress.views import QUERIES, ProgressView
from support.events import event

UNKNOWN = "penstock.progress.updated.v99"


class Code:
    """A version of the service that cannot fold events with these messages."""

    def __init__(self, *cannot: str, in_view: bool = False) -> None:
        self.cannot = set(cannot)
        self.in_view = in_view
        self.folded: list[tuple[str, int]] = []

    def build(self, frame: Frame) -> Service[ProgressState]:
        service = Service(
            frame,
            SERVICE,
            state=ProgressState,
            decide=decide,
            evolve=self.evolve,
            view=self.view(),
            queries=QUERIES,
        )
        service.projector.listen(self.heard)
        return service

    def heard(self, folded: Sequence[Folded[ProgressState] | Ended]) -> None:
        self.folded += [(f.event.subject, f.event.version) for f in folded]

    def evolve(
        self, state: ProgressState | None, data: msgspec.Struct, envelope: Envelope
    ) -> ProgressState:
        if not self.in_view and getattr(data, "message", None) in self.cannot:
            raise ValueError("this version does not understand it")
        return evolve(state, data, envelope)

    def view(self) -> ProgressView:
        code = self

        class Picky(ProgressView):
            def fold(self, db: apsw.Connection, folded: Sequence[Folded[ProgressState]]) -> None:
                super().fold(db, folded)
                for one in folded:
                    if code.in_view and one.state.message in code.cannot:
                        db.execute("INSERT INTO listed (id, state) VALUES ('x', NULL)")

        return Picky()


class System:
    """Instances of the service, each with a view of its own, and a connection beside them."""

    def __init__(self, bus: Bus, url: str, directory: Path, stack: AsyncExitStack) -> None:
        self.bus = bus
        self.office = DeadLetterOffice(bus)
        self._url = url
        self.directory = directory
        self._stack = stack

    async def start(self, code: Code, name: str = "one") -> Host:
        running = running_system(
            self._url, self.bus.subjects.prefix, self.directory / name, {SERVICE: code.build}
        )
        return await self._stack.enter_async_context(running)

    async def append(self, *events: Envelope) -> int:
        ack = None
        for one in events:
            subject = self.bus.subjects.event(SERVICE, one.subject)
            ack = await self.bus.publish_acked(subject, encode(one))
        return ack.seq if ack else 0

    async def get(self, host: Host, id: str, min_seq: int) -> tuple[ProgressState, Answer]:
        [endpoint] = [e for e in host.services[0].endpoints if e.name == "get"]
        answer = await endpoint.ask(ById(id=id, min_seq=min_seq))
        return msgspec.json.decode(answer.data, type=ProgressState), answer

    async def letters(self, count: int) -> list[Found]:
        """The letters, as soon as there are so many."""
        async with asyncio.timeout(60):
            while True:
                found = [one async for one in self.office.newest_first(Letters())]
                if len(found) >= count:
                    return found[::-1]
                await asyncio.sleep(0.02)

    async def buried(self, name: str = "one") -> None:
        """Wait until an instance has seen to it that each hold has its letter."""
        path = self.directory / name / "views" / f"{SERVICE}.1.sqlite"
        async with asyncio.timeout(60):
            while rows(path, "SELECT id FROM held WHERE NOT buried"):
                await asyncio.sleep(0.02)

    async def redrive(self) -> list[Settled]:
        pages = Redriving(self.bus).redrive_all(Letters())
        return [settled async for page in pages for settled in page]


def rows(path: Path, statement: str) -> list[Any]:
    db = apsw.Connection(str(path))
    db.set_busy_timeout(5000)
    try:
        return db.execute(statement).fetchall()
    finally:
        db.close()


@pytest.fixture
async def system(nats_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[System]:
    async with (
        await Bus.connect(nats_url, prefix=prefix) as bus,
        AsyncExitStack() as stack,
    ):
        await provision(bus)
        yield System(bus, nats_url, tmp_path, stack)


def created(id: str) -> Envelope:
    one = event(id, 1)
    return wrap(
        ProgressCreated(), id=one.id, subject=id, time=one.time, correlationid="f", version=1
    )


def told(id: str, version: int, text: str | None = None) -> Envelope:
    return event(id, version, text=text)


def of_tomorrow(id: str, version: int) -> Envelope:
    return msgspec.structs.replace(event(id, version), type=UNKNOWN)


async def test_later_events_of_its_aggregate_wait_and_other_aggregates_go_on(
    system: System,
) -> None:
    host = await system.start(Code())
    await system.append(created("a"), told("a", 2, "good"), created("b"))
    at = await system.append(of_tomorrow("a", 3))
    end = await system.append(told("a", 4, "later"), told("b", 2, "fine"))
    state, answer = await system.get(host, "a", end)
    assert (state.message, answer.held, answer.revision) == ("good", at, 2)
    assert answer.sequence == end
    state, answer = await system.get(host, "b", end)
    assert (state.message, answer.held) == ("fine", 0)
    [found] = await system.letters(1)
    letter = found.letter
    assert (letter.kind, letter.service, letter.id) == ("event", SERVICE, "a")
    assert (letter.type, letter.sequence) == (UNKNOWN, at)
    assert UNKNOWN in letter.reason.detail


async def test_over_http_a_header_and_a_metric_tell_of_the_hold(system: System) -> None:
    host = await system.start(Code())
    at = await system.append(created("a"), of_tomorrow("a", 2))
    async with aiohttp.ClientSession(host.http_url) as http:
        async with http.get("/progress/a", params={"min_seq": at}) as response:
            assert response.headers["Penstock-Held"] == str(at)
            assert (await response.json())["held"] == at
        async with http.get("/metrics") as response:
            assert 'penstock_held_aggregates{service="progress"} 1.0' in await response.text()


async def test_an_aggregate_whose_first_event_is_held_is_not_said_to_be_unknown(
    system: System,
) -> None:
    host = await system.start(Code())
    at = await system.append(of_tomorrow("a", 1))
    with pytest.raises(Unavailable, match=f"holds 'a' back: its event {at} cannot be folded"):
        await system.get(host, "a", at)


async def test_a_restart_and_another_instance_hold_it_without_burying_it_again(
    system: System, nats_url: str, prefix: str, tmp_path: Path
) -> None:
    first = tmp_path / "one"
    async with running_system(nats_url, prefix, first, {SERVICE: Code().build}):
        at = await system.append(created("a"), of_tomorrow("a", 2))
        await system.letters(1)
        await system.buried()
    end = await system.append(told("a", 3), created("b"))
    hosts = [await system.start(Code()), await system.start(Code(), "two")]
    for host in hosts:
        _, answer = await system.get(host, "a", end)
        assert (answer.held, answer.revision) == (at, 1)
    await system.buried("two")
    assert len(await system.letters(1)) == 1


async def test_once_the_cause_is_gone_a_redrive_folds_all_in_order_on_every_instance(
    system: System,
) -> None:
    codes = [Code("poison"), Code("poison")]
    hosts = [await system.start(code, name) for code, name in zip(codes, "xy", strict=True)]
    await system.append(created("a"), told("a", 2, "poison"))
    end = await system.append(*(told("a", n, str(n)) for n in range(3, 9)))
    for host in hosts:
        await system.get(host, "a", end)
    await system.letters(1)
    for code in codes:
        code.cannot.clear()
    assert [s.left for s in await system.redrive()] == [None]
    assert await system.letters(0) == []
    end = await system.append(told("a", 9, "9"))
    for host, code in zip(hosts, codes, strict=True):
        state, answer = await system.get(host, "a", end)
        assert (state.message, answer.held, answer.revision) == ("9", 0, end)
        assert code.folded == [("a", n) for n in range(1, 10)]


async def test_what_still_cannot_be_folded_stays_held_and_says_why(system: System) -> None:
    codes = [Code("poison"), Code("poison")]
    hosts = [await system.start(code, name) for code, name in zip(codes, "xy", strict=True)]
    at = await system.append(created("a"), told("a", 2, "poison"))
    [before] = await system.letters(1)
    codes[0].cannot.clear()
    [settled] = await system.redrive()
    assert settled.left and "this version does not understand it" in settled.left
    assert await system.letters(1) == [before]
    assert (await system.get(hosts[0], "a", at))[1].held == 0
    assert (await system.get(hosts[1], "a", at))[1].held == at


async def test_a_second_event_that_cannot_be_folded_has_a_letter_of_its_own(
    system: System,
) -> None:
    code = Code("poison", "venom")
    host = await system.start(code)
    await system.append(created("a"), told("a", 2, "poison"), told("a", 3, "good"))
    at = await system.append(told("a", 4, "venom"))
    await system.letters(1)
    code.cannot.remove("poison")
    assert [s.left for s in await system.redrive()] == [None]
    state, answer = await system.get(host, "a", at)
    assert (state.message, answer.held) == ("good", at)
    [found] = await system.letters(1)
    assert found.letter.sequence == at


async def test_a_start_with_code_that_understands_it_releases_it(
    system: System, nats_url: str, prefix: str, tmp_path: Path
) -> None:
    older = Code("poison")
    async with running_system(nats_url, prefix, tmp_path / "one", {SERVICE: older.build}) as host:
        end = await system.append(created("a"), told("a", 2, "poison"), told("a", 3, "good"))
        assert (await system.get(host, "a", end))[1].held
    host = await system.start(Code())
    async with asyncio.timeout(60):
        while (await system.get(host, "a", end))[1].held:
            await asyncio.sleep(0.02)
    assert (await system.get(host, "a", end))[0].message == "good"


async def test_a_crash_before_its_letter_is_stored_is_made_good_by_the_next_start(
    system: System, nats_url: str, prefix: str, tmp_path: Path
) -> None:
    async with running_system(nats_url, prefix, tmp_path / "one", {SERVICE: Code().build}):
        await system.append(created("a"), of_tomorrow("a", 2))
        await system.letters(1)
        await system.buried()
    # As it is right after the hold was committed: no letter, and not marked as buried.
    await system.bus.api(f"STREAM.PURGE.{system.bus.subjects.stream('dead')}")
    path = tmp_path / "one" / "views" / f"{SERVICE}.1.sqlite"
    rows(path, "UPDATE held SET buried = 0")
    await system.start(Code())
    assert len(await system.letters(1)) == 1


async def test_what_the_view_refuses_is_the_events_fault_and_not_the_disks(
    system: System,
) -> None:
    host = await system.start(Code("poison", in_view=True))
    at = await system.append(created("a"), told("a", 2, "poison"))
    end = await system.append(created("b"))
    assert (await system.get(host, "b", end))[1].held == 0
    assert (await system.get(host, "a", end))[1].held == at


async def test_a_tombstone_ends_the_hold_since_nothing_before_it_counts(system: System) -> None:
    host = await system.start(Code())
    await system.append(created("a"), told("a", 2, "private"), of_tomorrow("a", 3))
    one = event("a", 4)
    tombstone = wrap(
        ERASED[SERVICE](reason="asked"), id="t", subject="a", time=one.time, correlationid="f",
        version=4,
    )  # fmt: skip
    end = await system.append(told("a", 4), tombstone, created("a"), told("a", 2, "anew"))
    state, answer = await system.get(host, "a", end)
    assert (state.message, answer.held, answer.revision) == ("anew", 0, end)
    path = system.directory / "one" / "views" / f"{SERVICE}.1.sqlite"
    assert rows(path, "SELECT * FROM held") == []


async def test_asking_a_service_that_does_not_run_leaves_the_letter(
    system: System, nats_url: str, prefix: str, tmp_path: Path
) -> None:
    async with running_system(nats_url, prefix, tmp_path / "one", {SERVICE: Code().build}):
        await system.append(created("a"), of_tomorrow("a", 2))
        await system.letters(1)
    [settled] = await system.redrive()
    assert settled.left and "No instance of progress answers" in settled.left
    assert len(await system.letters(1)) == 1
