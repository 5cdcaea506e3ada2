"""Workflows as an application sees them: the SDK, a worker and the jobs service."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from penstock.client import INDEX, PREVIOUS, Item, Penstock, Result, chain, group, step
from penstock.contracts.errors import InvalidMessage, JobFailed, Refused
from penstock.contracts.jobs import RedriveJob
from penstock.contracts.workflows import MAX_STEPS, CancelWorkflow
from support.workers import NewWorker, Serve, event_names


@pytest.fixture
async def worker(new_worker: NewWorker, serve: Serve) -> AsyncIterator[list[str]]:
    """A worker of some arithmetic; the list has what it was called with."""
    calls: list[str] = []
    worker = new_worker()

    @worker.register_handler("numbers")
    async def numbers(count: int) -> list[int]:
        return list(range(count))

    @worker.register_handler("double")
    async def double(x: int, index: int = 0) -> int:
        calls.append(f"double {x} {index}")
        return x * 2

    @worker.register_handler("sum")
    async def total(xs: list[int]) -> dict[str, int]:
        return {"sum": sum(xs)}

    @worker.register_handler("flaky")
    async def flaky() -> str:
        calls.append("flaky")
        if calls.count("flaky") == 1:
            raise RuntimeError("boom")
        return "fine"

    await serve(worker)
    yield calls


async def test_a_chain_passes_each_result_on(ps: Penstock, worker: list[str]) -> None:
    flow = chain(
        step("numbers", {"count": 4}),
        step("sum", {"xs": PREVIOUS}),
        step("double", {"x": Result("sum", "sum")}),
    )
    workflow = await ps.workflows.start(flow, id="c", tags=["t"])
    assert (workflow.state, workflow.id) == ("processing", "workflow:c")
    assert await ps.workflows.result("c", timeout=60) == 12
    assert await ps.workflows.results("c") == {
        "numbers": [0, 1, 2, 3],
        "sum": {"sum": 6},
        "double": 12,
    }
    job = await ps.jobs.get("c.double")
    assert (job.tags, job.correlationid) == (("t",), workflow.correlationid)


async def test_a_group_joins_and_a_map_runs_over_a_list(ps: Penstock, worker: list[str]) -> None:
    both = group(step("double", {"x": 1}, key="one"), step("double", {"x": 2}, key="two"))
    await ps.workflows.start(both.then(step("sum", {"xs": PREVIOUS})), id="g")
    assert await ps.workflows.result("g", timeout=60) == {"sum": 6}
    each = chain(step("numbers", {"count": 5})).map(step("double", {"x": Item(), "index": INDEX}))
    await ps.workflows.start(each.then(step("sum", {"xs": PREVIOUS})), id="m")
    assert await ps.workflows.result("m", timeout=60) == {"sum": 20}
    assert sorted(worker[2:]) == [f"double {n} {n}" for n in range(5)]


async def test_a_failed_workflow_goes_on_from_its_failed_step(
    ps: Penstock, worker: list[str]
) -> None:
    steps = [
        step("double", {"x": 1}),
        step("flaky", max_attempts=1, after=["double"]),
        step("sum", {"xs": []}, after=["flaky"]),
    ]
    await ps.workflows.start(steps, id="f")
    with pytest.raises(JobFailed, match="workflow:f' failed: flaky: boom"):
        await ps.workflows.result("f", timeout=60)
    with pytest.raises(Refused, match="restart that"):
        await ps.session.command(RedriveJob(), id="f.flaky")
    await ps.workflows.restart("f")
    assert await ps.workflows.result("f", timeout=60) == {"sum": 0}
    assert worker == ["double 1 0", "flaky", "flaky"]
    assert [w.id for w in await ps.workflows.list(state="completed")] == ["workflow:f"]


async def test_a_workflow_is_cancelled_as_one(ps: Penstock) -> None:
    await ps.workflows.start([step("a"), step("b"), step("c", after=["a"])], id="x")
    outcome = await ps.session.command(CancelWorkflow(reason="enough"), id="workflow:x")
    ends = [(await ps.jobs.history(id))[-1].sequence for id in ("x.a", "x.b")]
    assert outcome.sequence == max(ends)  # what is read then is what became of all of it
    assert [(await ps.jobs.get(id)).state for id in ("x.a", "x.b")] == ["cancelled"] * 2
    assert "workflow_cancelled" in await event_names(ps, "workflow:x")


async def test_a_job_cancelled_by_hand_fails_its_workflow(ps: Penstock) -> None:
    await ps.workflows.start([step("a"), step("b")], id="h")
    await ps.jobs.cancel("h.a", "by hand")
    with pytest.raises(JobFailed, match="a: by hand"):
        await ps.workflows.result("h", timeout=60)
    with pytest.raises(JobFailed, match="workflow:h is over"):
        await ps.jobs.result("h.b", timeout=60)  # cancelled once the workflow has failed


async def test_a_step_whose_payload_cannot_be_made_fails_and_says_why(
    ps: Penstock, worker: list[str]
) -> None:
    steps = [step("double", {"x": 1}), step("sum", {"xs": Result("double", "no.such")})]
    await ps.workflows.start(steps, id="p")
    with pytest.raises(JobFailed, match=r"There is no 'no\.such' in the result of 'double'"):
        await ps.workflows.result("p", timeout=60)


async def test_what_cannot_run_is_refused_at_once(ps: Penstock) -> None:
    with pytest.raises(InvalidMessage, match="circle"):
        await ps.workflows.start([step("a", after=["b"]), step("b", after=["a"])])


async def test_as_many_steps_as_are_allowed_may_all_begin_at_once(ps: Penstock) -> None:
    await ps.workflows.start([step("a", key=f"s{n}") for n in range(MAX_STEPS)], id="w")
    last = await anext(ps.jobs.watch(f"w.s{MAX_STEPS - 1}"))  # the view folds it a little later
    assert last.state == "pending"


async def test_errors_of_any_length_are_told_together(
    ps: Penstock, new_worker: NewWorker, serve: Serve
) -> None:
    worker = new_worker()

    @worker.register_handler("fail")
    async def fail() -> None:
        raise RuntimeError("x" * 30_000)

    await serve(worker)
    each = step("fail", each=list(range(60)), max_attempts=1)
    await ps.workflows.start([each], id="w", on_failure="continue")
    with pytest.raises(JobFailed, match="fail: xxx"):
        await ps.workflows.result("w", timeout=60)
