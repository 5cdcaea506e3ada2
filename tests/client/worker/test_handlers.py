"""How a payload becomes a handler's arguments, and which functions cannot be handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

import msgspec
import pytest

from penstock.client import JobContext, Penstock, Worker
from penstock.client.worker.handlers import Handler
from penstock.contracts.errors import InvalidMessage
from support.workers import NewWorker, Serve


class Part(msgspec.Struct):
    size: int


async def resize(
    file: str,
    part: Part,
    at: datetime | None = None,
    percent: Annotated[int, msgspec.Meta(le=100)] = 50,
) -> None:
    """Has an argument of every kind that a payload can hold."""


def context() -> JobContext:
    return JobContext(
        id="j",
        name="n",
        attempt=3,
        max_attempts=3,
        correlationid="c",
        deadline=None,
        checkpoint=None,
        ps=Penstock(),
        loop=asyncio.get_running_loop(),
        is_stopped=lambda: False,
        reports=None,  # type: ignore[arg-type]  # nothing is told here
    )


def test_fields_become_arguments_of_their_annotated_types() -> None:
    body = b'{"file": "a", "part": {"size": 3}, "at": "2026-01-02T03:04:05Z"}'
    found = Handler("resize", resize).arguments(body)
    assert found == {
        "file": "a",
        "part": Part(3),
        "at": datetime.fromisoformat("2026-01-02T03:04:05Z"),
    }


def test_a_default_is_the_functions_own() -> None:
    def takes(items: list[int] = []) -> list[int]:  # noqa: B006 - that is what is tested
        return items

    assert Handler("x", takes).arguments(b"{}") == {}
    assert Handler("x", takes).arguments(b'{"items": [1]}') == {"items": [1]}


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b'{"file": 1, "part": {"size": 3}}', "$.payload.file"),
        (b'{"file": "a", "part": {"size": "3"}}', "$.payload.part.size"),
        (b'{"part": {"size": 3}}', "$.payload.file"),
        (b'{"file": "a", "part": {"size": 3}, "percent": 101}', "$.payload.percent"),
    ],
)
def test_a_payload_that_does_not_fit_is_told_with_its_path(body: bytes, path: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        Handler("resize", resize).arguments(body)
    assert caught.value.fields["path"] == path
    assert "'resize'" in str(caught.value)


def test_fields_that_are_not_named_are_ignored_or_collected() -> None:
    def named(a: int) -> None: ...
    def collecting(a: int, **rest: Any) -> None: ...

    assert Handler("x", named).arguments(b'{"a": 1, "b": 2}') == {"a": 1}
    assert Handler("x", collecting).arguments(b'{"a": 1, "b": 2}') == {"a": 1, "b": 2}


async def test_a_context_goes_to_the_parameter_that_asks_for_it_and_never_from_the_payload() -> (
    None
):
    def with_context(a: int, job: JobContext) -> tuple[int, JobContext]:
        return a, job

    handler, given = Handler("x", with_context), context()
    arguments = handler.arguments(b'{"a": 1, "job": "forged"}')
    assert handler.call(arguments, given) == (1, given)
    assert given.is_last_attempt


def by_position(a: int, /) -> None: ...
def by_position_all(*a: int) -> None: ...
def ambiguous_in_json(a: list[int] | set[int]) -> None: ...
def unresolvable(a: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    "function", [by_position, by_position_all, ambiguous_in_json, unresolvable]
)
def test_a_function_that_cannot_be_called_is_refused_when_it_is_registered(
    function: Callable[..., None],
) -> None:
    with pytest.raises(TypeError, match="The handler of 'x'"):
        Worker().register_handler("x")(function)


def test_two_handlers_of_one_name_are_refused() -> None:
    worker = Worker()
    worker.register_handler("resize")(resize)
    with pytest.raises(ValueError, match="a handler for 'resize' already"):
        worker.register_handler("resize")(resize)


async def test_a_job_is_enqueued_by_its_function_once_the_payload_fits(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker()

    @worker.register_handler("area")
    async def area(width: int, height: int = 1) -> int:
        return width * height

    await serve(worker)
    job = await ps.jobs.enqueue(area, {"width": 3, "height": 2})
    assert (job.name, await ps.jobs.result(job.id, timeout=60)) == ("area", 6)
    assert await area(4) == 4
    with pytest.raises(InvalidMessage) as caught:
        await ps.jobs.enqueue(area, {"width": "wide"})
    assert caught.value.fields["path"] == "$.payload.width"
    assert [one.id for one in await ps.jobs.list()] == [job.id]


async def test_a_function_without_one_name_is_enqueued_by_a_name(ps: Penstock) -> None:
    async def job() -> None: ...

    with pytest.raises(InvalidMessage, match="under no name"):
        await ps.jobs.enqueue(job)
    Worker().register_handler("a")(job)
    Worker().register_handler("b")(job)
    with pytest.raises(InvalidMessage, match="under 'a' and 'b'"):
        await ps.jobs.enqueue(job)


async def test_an_async_handler_is_told_to_await_instead_of_run() -> None:
    async def call() -> None: ...

    with pytest.raises(RuntimeError, match="awaits the call itself"):
        context().run(call())
