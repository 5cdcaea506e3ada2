"""Workers by their signs of life, what their handlers take, and jobs that nobody can do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import aiohttp
import msgspec
import pytest

from penstock.client import Penstock
from penstock.client.worker.handlers import Handler
from penstock.contracts.errors import InvalidMessage
from penstock.contracts.jobs import EnqueueJob
from penstock.contracts.jobs_bulk import JobSpec
from penstock.contracts.workers import HandlerInfo, WorkerSign
from penstock.infra.bus import Bus
from penstock.infra.host import Host
from penstock.infra.testing import running_system
from penstock.jobs.handlers import Handlers
from penstock.jobs.service import build
from penstock.jobs.workers import FORGOTTEN, LOST, MOST, Workers
from support.workers import NewWorker, Serve


async def convert(file_id: int, sizes: list[int] | None = None) -> None:
    """Does nothing."""


async def until(condition: Callable[[], Any]) -> None:
    """Wait until what is awaited is so."""
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.02)


async def known(ps: Penstock) -> set[str]:
    """The names that live workers can do."""
    return {one.name for one in await ps.jobs.handlers() if one.workers}


async def test_a_payload_that_no_worker_takes_is_refused_with_the_path(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker(name="w1")
    worker.register_handler("convert")(convert)
    await ps.jobs.enqueue("convert", {"file_id": "x"}, delay=60)  # nobody is known yet
    await serve(worker)
    await until(lambda: _knows(ps, "convert"))
    for payload, path in (
        ({"file_id": "seven"}, "$.payload.file_id"),
        ({}, "$.payload.file_id"),
        ({"file_id": 7, "sizes": [1, "x"]}, "$.payload.sizes"),
    ):
        with pytest.raises(InvalidMessage, match="No worker takes it") as refused:
            await ps.jobs.enqueue("convert", payload)
        assert refused.value.fields["path"].startswith(path)
    fits = await ps.jobs.enqueue("convert", {"file_id": 7, "more": 1}, id="fits")
    assert fits.state == "pending"
    assert (await ps.jobs.enqueue("unheard-of", {"file_id": "x"})).state == "pending"
    jobs = [JobSpec(name="convert", payload={"file_id": n}) for n in (1, "two", 3)]
    became = [one.problem async for one in ps.jobs.enqueue_many(jobs)]
    assert [problem is None for problem in became] == [True, False, True]
    assert became[1] and became[1].fields["path"] == "$.payload.file_id"


async def _knows(ps: Penstock, name: str) -> bool:
    return name in await known(ps)


async def test_a_job_that_is_there_is_given_back_whatever_its_payload(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    old = await ps.jobs.enqueue("convert", {"file_id": "x"}, id="old", delay=60)
    worker = new_worker()
    worker.register_handler("convert")(convert)
    await serve(worker)
    await until(lambda: _knows(ps, "convert"))
    assert (await ps.jobs.enqueue("convert", {"file_id": "x"}, id="old", delay=60)).id == old.id


async def test_workers_and_names_without_one_are_seen(
    ps: Penstock, system: Host, new_worker: NewWorker
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    worker = new_worker(name="w1", version="7", queues=["default", "q"])

    @worker.register_handler("long")
    async def long() -> None:
        begun.set()
        await go_on.wait()

    await ps.jobs.enqueue("nobody-can", queue="elsewhere")
    async with worker:
        job = await ps.jobs.enqueue("long")
        await begun.wait()
        await ps.session.bus.publish(ps.session.bus.subjects.worker_call(), b"")
        await until(lambda: _runs(ps, job.id))
        [seen] = await ps.jobs.workers()
        assert (seen.name, seen.status, seen.version, seen.queues) == (
            "w1", "working", "7", ("default", "q"),
        )  # fmt: skip
        assert (seen.jobs, seen.handlers, seen.problem) == (1, ("long",), None)
        found = {one.name: one for one in await ps.jobs.handlers()}
        assert (found["long"].workers, found["long"].lanes) == (("w1",), ("async",))
        assert (found["nobody-can"].workers, found["nobody-can"].waiting) == ((), 1)
        async with aiohttp.ClientSession(system.http_url) as http:
            for path in ("/jobs/workers", "/jobs/handlers", "/jobs/stats", "/jobs/metrics"):
                async with http.get(path) as response:
                    assert response.status == 200, path
        go_on.set()
    await until(lambda: _stopped(ps))
    assert not await known(ps)


async def _runs(ps: Penstock, id: str) -> bool:
    return any(job.id == id for one in await ps.jobs.workers() for job in one.running)


async def _stopped(ps: Penstock) -> bool:
    return [one.status for one in await ps.jobs.workers()] == ["stopped"]


async def test_a_service_that_starts_later_asks_who_is_there(
    nats_url: str, prefix: str, tmp_path: Path, new_worker: NewWorker
) -> None:
    async with running_system(nats_url, prefix, tmp_path, {"jobs": build}):
        worker = new_worker(name="w1")
        worker.register_handler("convert")(convert)
        await worker.__aenter__()
    try:
        async with (
            running_system(nats_url, prefix, tmp_path, {"jobs": build}),
            Penstock(nats_url, prefix=prefix) as ps,
        ):
            await until(lambda: _knows(ps, "convert"))
            [found] = [one for one in await ps.jobs.handlers() if one.name == "convert"]
            assert found.payloads
            await worker.drain()
    finally:
        await worker.drain()


# -- the table -----------------------------------------------------------------------------------


@dataclass
class Clock:
    """A time that a test sets."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Table:
    """A table of workers without a bus behind it."""

    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        bus: Bus = object()  # type: ignore[assignment]  # nothing is heard here
        self.workers = Workers(bus, clock=self.clock)
        self.handlers = Handlers(self.workers, self.clock)

    def sign(self, name: str, **changes: Any) -> None:
        """Hear a sign of life."""
        now = datetime(2026, 1, 1, tzinfo=UTC)
        sign = WorkerSign(
            name=name, host="h", pid=1, started=now, time=now, penstock="1", queues=("default",),
            concurrency=1, lease=5.0,
        )  # fmt: skip
        self.workers.hear(msgspec.structs.replace(sign, **changes))

    def refused(self, payload: dict[str, Any], name: str = "x") -> str | None:
        """The path of what is refused."""
        refusal = self.handlers.refusal(EnqueueJob(name=name, payload=payload))
        return refusal.fields["path"] if refusal else None


def handler(function: Any, name: str = "x") -> HandlerInfo:
    return HandlerInfo(name=name, lane="async", payload=Handler(name, function).schema())


async def number(a: int) -> None: ...
async def text(a: str) -> None: ...


def test_what_one_of_several_versions_takes_is_accepted() -> None:
    table = Table()
    table.sign("old", handlers=(handler(number),))
    assert table.refused({"a": "x"}) == "$.payload.a"
    table.sign("new", handlers=(handler(text),))
    assert table.refused({"a": "x"}) is None
    assert table.refused({"a": []}) == "$.payload.a"
    table.sign("new", handlers=(handler(text),), stopped=True)
    assert table.refused({"a": "x"}) == "$.payload.a"


def test_a_sign_without_schemas_keeps_those_of_the_last_whole_one() -> None:
    table = Table()
    table.sign("w", handlers=(HandlerInfo(name="x", lane="async"),))
    assert table.refused({"a": "x"}) is None  # nobody knows what it takes
    table.sign("w", handlers=(handler(number),))
    table.sign("w", handlers=(HandlerInfo(name="x", lane="async"),))
    assert table.refused({"a": "x"}) == "$.payload.a"


def test_a_silent_worker_is_lost_and_then_forgotten() -> None:
    table = Table()
    table.sign("w", handlers=(handler(number),))
    table.clock.now += LOST
    assert [one.status for one in table.workers.seen()] == ["lost"]
    assert table.refused({"a": "x"}) is None
    assert table.workers.missing_for("x") == LOST
    table.clock.now += FORGOTTEN
    table.sign("other")
    assert [one.name for one in table.workers.seen()] == ["other"]


def test_no_more_workers_are_kept_than_there_is_room_for() -> None:
    table = Table()
    for place in range(MOST + 5):
        table.sign(f"w{place}")
    names = {one.name for one in table.workers.seen()}
    assert (len(names), "w4" in names, f"w{MOST + 4}" in names) == (MOST, False, True)


class Inner(msgspec.Struct):
    kind: Literal["a", "b"]
    when: datetime | None = None


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Decimal, 1.5),
        (Decimal, "1.5"),
        (set[int], [1, 1]),
        (dict[int, int], {"1": 2}),
        (Annotated[str, msgspec.Meta(pattern=r"^\d$")], "\u0663"),
        (float, 1),
        (bytes, "AA=="),
        (list[Inner], [{"kind": "a", "more": 1}]),
        (Inner | None, None),
        (Any, {"format": "decimal"}),
    ],
)
def test_what_a_worker_takes_is_never_refused(annotation: Any, value: Any) -> None:
    async def function(a: Any) -> None: ...

    function.__annotations__["a"] = annotation
    payload = {"a": value}
    taker = Handler("x", function)
    taker.arguments(msgspec.json.encode(payload))
    table = Table()
    table.sign("w", handlers=(handler(function),))
    assert table.refused(payload) is None


def test_a_schema_that_refers_elsewhere_is_not_fetched_and_refuses_nothing() -> None:
    table = Table()
    for schema in ({"$ref": "http://127.0.0.1:1/x"}, {"type": 7}):
        table.sign("w", handlers=(HandlerInfo(name="x", lane="async", payload=schema),))
        assert table.refused({"a": 1}) is None


# -- jobs that nobody can do -----------------------------------------------------------------------


@pytest.fixture
async def hasty(nats_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[Penstock]:
    """A system in which what nobody can do fails soon."""
    async with (
        running_system(nats_url, prefix, tmp_path, {"jobs": build}, unhandled_grace=0.3),
        Penstock(nats_url, prefix=prefix) as ps,
    ):
        yield ps


async def test_a_job_that_nobody_can_do_fails_if_it_was_asked_to_and_else_waits(
    hasty: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker(queues=["other"])
    worker.register_handler("known")(convert)
    async with worker:
        await until(lambda: _knows(hasty, "known"))
        await hasty.jobs.enqueue("nobody", id="waits")
        await hasty.jobs.enqueue("known", {"file_id": 1}, id="known", if_unhandled="fail")
        await hasty.jobs.enqueue("nobody", id="later", delay=60, if_unhandled="fail")
        await hasty.jobs.enqueue("nobody", id="fails", if_unhandled="fail")
        async for job in hasty.jobs.watch("fails"):
            last = job
        assert (last.state, last.cause) == ("failed", "unhandled")
        assert last.error and "No worker has had a handler of 'nobody'" in last.error.message
        for id in ("waits", "known", "later"):
            assert await hasty.jobs.get_status(id) == "pending"
        redriven = await hasty.jobs.redrive("fails")
        assert redriven.state == "pending"
        async for job in hasty.jobs.watch("fails"):
            last = job
        assert last.cause == "unhandled"
