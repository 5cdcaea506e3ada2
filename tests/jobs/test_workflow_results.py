"""What a workflow's steps give to each other: large, in the archive, from groups and chains."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from penstock.client import PREVIOUS, Item, Penstock, Result, chain, group, step
from penstock.client.workflow_steps import Flow
from penstock.contracts.errors import Archived, InvalidMessage, JobFailed
from penstock.contracts.lifecycle import ARCHIVE
from penstock.infra.testing import running_system
from penstock.jobs.service import build
from support.workers import NewWorker, Serve, event_names

KB = 1024


@pytest.fixture
async def worker(new_worker: NewWorker, serve: Serve) -> AsyncIterator[None]:
    """A worker of some texts and sums."""
    worker = new_worker()

    @worker.register_handler("text")
    async def text(length: int) -> str:
        return "x" * length

    @worker.register_handler("texts")
    async def texts(lengths: list[int]) -> list[str]:
        return ["x" * length for length in lengths]

    @worker.register_handler("length")
    async def length(of: str) -> int:
        return len(of)

    @worker.register_handler("sum")
    async def total(xs: list[int]) -> int:
        return sum(xs)

    @worker.register_handler("double")
    async def double(x: int) -> int:
        return x * 2

    @worker.register_handler("echo")
    async def echo(what: list[int | None]) -> list[int | None]:
        return what

    await serve(worker)
    yield


async def test_a_large_result_is_given_to_the_next_step_and_to_who_asks(
    ps: Penstock, worker: None
) -> None:
    flow = chain(step("text", {"length": 100 * KB}), step("length", {"of": PREVIOUS}))
    await ps.workflows.start(flow, id="w")
    assert await ps.workflows.result("w", timeout=60) == 100 * KB
    assert (await ps.jobs.get("w.text")).stored is not None
    await ps.workflows.start([step("text", {"length": 2_000 * KB})], id="alone")
    assert len(await ps.workflows.result("alone", timeout=60)) == 2_000 * KB


async def test_a_step_is_mapped_over_a_large_result_and_gives_it_part_by_part(
    ps: Penstock, worker: None
) -> None:
    """The whole list would be too large for one payload."""
    lengths = [300 * KB, 400 * KB]
    flow = chain(step("texts", {"lengths": lengths})).map(step("length", {"of": Item()}))
    await ps.workflows.start(flow, id="w")
    assert await ps.workflows.result("w", timeout=60) == lengths


async def test_a_result_too_large_for_a_payload_fails_the_step_that_needs_it(
    ps: Penstock, worker: None
) -> None:
    flow = chain(step("text", {"length": 600 * KB}), step("length", {"of": PREVIOUS}))
    await ps.workflows.start(flow, id="w")
    with pytest.raises(JobFailed, match=r"length: The payload has \d+ bytes .* at most 524288"):
        await ps.workflows.result("w", timeout=60)


async def test_a_job_that_cannot_be_enqueued_and_is_ignored_returns_nothing(
    ps: Penstock, worker: None
) -> None:
    each = step(
        "double",
        {"x": Item("n")},
        key="each",
        each=[{"n": 1}, {"no": 2}, {"n": 3}],
        on_failure="ignore",
    )
    await ps.workflows.start([each, step("echo", {"what": Result("each")})], id="w")
    assert await ps.workflows.result("w", timeout=60) == [2, None, 6]


async def test_a_result_that_is_in_the_archive_fails_the_step_that_needs_it(
    ps: Penstock, worker: None, new_worker: NewWorker
) -> None:
    steps = [
        step("double", {"x": 1}),
        step("double", {"x": 2}, key="held", queue="held", after=["double"]),
        step("sum", {"xs": [Result("double")]}, after=["held"]),
    ]
    await ps.workflows.start(steps, id="w")
    await archive_once_completed(ps, "double")
    await serve_held(ps, new_worker)
    with pytest.raises(JobFailed, match=r"sum: What the job 'w\.double' returned was archived"):
        await ps.workflows.result("w", timeout=60)


async def test_results_in_the_archive_are_told_of_in_a_sentence(
    ps: Penstock, worker: None, new_worker: NewWorker
) -> None:
    steps = [
        step("double", {"x": 1}),
        step("double", {"x": 2}, key="held", queue="held", after=["double"]),
    ]
    await ps.workflows.start(steps, id="w")
    await archive_once_completed(ps, "double")
    await serve_held(ps, new_worker)
    assert await ps.workflows.result("w", timeout=60) == 4
    with pytest.raises(Archived, match=r"'w\.double' is over and in the archive"):
        await ps.workflows.results("w")
    await archive_once_completed(ps, "held")
    with pytest.raises(Archived, match=r"'workflow:w' is over and in the archive"):
        await ps.workflows.result("w", timeout=60)


async def serve_held(ps: Penstock, new_worker: NewWorker) -> None:
    """Do what waits in the queue `held`."""
    worker = new_worker(queues=["held"])

    @worker.register_handler("double")
    async def double(x: int) -> int:
        return x * 2

    async with worker:
        await ps.jobs.result("w.held", timeout=60)


async def archive_once_completed(ps: Penstock, key: str) -> None:
    """Archive everything that is completed, once the workflow knows that its step is."""
    async for workflow in ps.workflows.watch("w"):
        if workflow.runs[key].state == "completed":
            break
    before = {"completed": datetime.now(UTC) + timedelta(hours=1)}
    await ps.session.command(ARCHIVE["jobs"](before=before), id="archive")


async def test_a_group_has_members_that_are_chains(ps: Penstock, worker: None) -> None:
    def one(key: str, length: int) -> Flow:
        return chain(
            step("text", {"length": length}, key=f"{key}-text"),
            step("length", {"of": PREVIOUS}, key=f"{key}-length"),
        )

    flow = group(one("a", 3), one("b", 4)).then(step("sum", {"xs": PREVIOUS}))
    await ps.workflows.start(flow, id="w")
    assert await ps.workflows.result("w", timeout=60) == 7


async def test_a_group_runs_after_what_is_before_it_with_its_result(
    ps: Penstock, worker: None
) -> None:
    ways = group(
        chain(step("double", {"x": PREVIOUS}, key="a1"), step("double", {"x": PREVIOUS}, key="a2")),
        step("double", {"x": PREVIOUS}, key="b"),
    )
    flow = chain(step("sum", {"xs": [1, 2]}, key="first"), ways, step("sum", {"xs": PREVIOUS}))
    await ps.workflows.start(flow, id="w")
    assert await ps.workflows.result("w", timeout=60) == 18


def test_a_map_over_a_group_is_refused_since_it_gives_no_list_of_one_step() -> None:
    both = group(step("a"), step("b"))
    for flow in (both, chain(step("c"), both)):
        with pytest.raises(InvalidMessage, match="join what the group gives"):
            flow.map(step("double", {"x": Item()}))


async def test_two_instances_complete_a_workflow_once(
    ps: Penstock, worker: None, nats_url: str, prefix: str, tmp_path: Path
) -> None:
    async with running_system(nats_url, prefix, tmp_path / "other", {"jobs": build}):
        each = step("double", {"x": Item()}, each=list(range(700)))  # more than go together
        await ps.workflows.start([each, step("sum", {"xs": Result("double")})], id="w")
        assert await ps.workflows.result("w", timeout=40) == 700 * 699
        history = await ps.workflows.history("w")
        names = await event_names(ps, "workflow:w")
    ends = [end for entry in history for end in entry.data.get("ends", [entry.data])]
    jobs = [(end["key"], end.get("index", 0)) for end in ends if "how" in end]
    assert (len(jobs), len(set(jobs))) == (701, 701)
    assert names.count("workflow_completed") == 1
