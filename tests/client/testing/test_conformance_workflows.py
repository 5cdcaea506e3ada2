"""Workflows in memory and on the real system, with the same outcome."""

from __future__ import annotations

import pytest

from penstock.client import (
    INDEX,
    PREVIOUS,
    InvalidMessage,
    Item,
    JobFailed,
    Refused,
    Result,
    chain,
    group,
    step,
)
from support.either_system import Running
from support.workers import event_names


async def test_a_chain_passes_each_result_on(running: Running) -> None:
    flow = chain(
        step("numbers", {"count": 4}),
        step("sum", {"xs": PREVIOUS}),
        step("double", {"x": Result("sum", "sum")}),
    )
    started = await running.ps.workflows.start(flow, id="c", tags=["t"])
    assert (started.state, started.id) == ("processing", "workflow:c")
    assert (await running.workflow("c")).state == "completed"
    assert await running.ps.workflows.result("c") == 12
    results = {"numbers": [0, 1, 2, 3], "sum": {"sum": 6}, "double": 12}
    assert await running.ps.workflows.results("c") == results
    job = await running.ps.jobs.get("c.double")
    assert (job.tags, job.correlationid) == (("t",), started.correlationid)
    names = await event_names(running.ps, "workflow:c")
    assert (names[0], names[-1]) == ("workflow_started", "workflow_completed")


async def test_a_group_joins_and_a_map_runs_over_a_list(running: Running) -> None:
    both = group(step("double", {"x": 1}, key="one"), step("double", {"x": 2}, key="two"))
    await running.ps.workflows.start(both.then(step("sum", {"xs": PREVIOUS})), id="g")
    await running.workflow("g")
    assert await running.ps.workflows.result("g") == {"sum": 6}
    each = chain(step("numbers", {"count": 5})).map(step("double", {"x": Item(), "index": INDEX}))
    await running.ps.workflows.start(each.then(step("sum", {"xs": PREVIOUS})), id="m")
    await running.workflow("m")
    assert await running.ps.workflows.result("m") == {"sum": 20}
    assert (await running.ps.jobs.get("m.double.3")).payload == {"x": 3, "index": 3}
    assert len(await running.ps.jobs.list(workflow="workflow:m")) == 7


async def test_a_step_waits_for_those_it_names(running: Running) -> None:
    steps = [
        step("sum", {"xs": []}, after=["b", "c"]),
        step("double", {"x": 1}, key="a"),
        step("double", {"x": 2}, key="b", after=["a"]),
        step("double", {"x": 3}, key="c", after=["a"]),
    ]
    await running.ps.workflows.start(steps, id="d")
    assert (await running.workflow("d")).state == "completed"
    order = await running.by_start("d.a", "d.b", "d.c", "d.sum")
    assert (order[0], sorted(order[1:3]), order[3]) == ("d.a", ["d.b", "d.c"], "d.sum")


async def test_a_failed_workflow_goes_on_from_its_failed_step(running: Running) -> None:
    steps = [
        step("double", {"x": 1}),
        step("flaky", max_attempts=1, after=["double"]),
        step("sum", {"xs": []}, after=["flaky"]),
    ]
    await running.ps.workflows.start(steps, id="f")
    failed = await running.workflow("f")
    assert {key: run.state for key, run in failed.runs.items()} == {
        "double": "completed",
        "flaky": "failed",
        "sum": "skipped",
    }
    with pytest.raises(JobFailed, match="workflow:f' failed: flaky: once"):
        await running.ps.workflows.result("f")
    with pytest.raises(Refused, match="restart that"):
        await running.ps.jobs.redrive("f.flaky")
    await running.ps.workflows.restart("f")
    assert (await running.workflow("f")).generation == 1
    assert await running.ps.workflows.result("f") == {"sum": 0}
    asked = await running.ps.jobs.enqueue("called", {"what": "double"})
    assert (await running.over(asked.id)).result == 1


async def test_a_failure_stops_the_others_or_only_what_depends_on_it(running: Running) -> None:
    steps = [
        step("broken"),
        step("double", {"x": 1}, delay=0.01),
        step("sum", {"xs": []}, after=["broken"]),
        step("greet", {"user": "ada"}, delay=3600),
    ]
    await running.ps.workflows.start(steps, id="stop")
    stopped = await running.workflow("stop")
    assert (stopped.state, stopped.runs["greet"].state) == ("failed", "cancelled")
    assert (await running.over("stop.greet")).reason == "workflow:stop is over"
    await running.ps.workflows.start(steps[:3], id="on", on_failure="continue")
    went_on = await running.workflow("on")
    assert [run.state for run in went_on.runs.values()] == ["failed", "completed", "skipped"]
    assert went_on.state == "failed"


async def test_a_step_whose_failure_is_ignored_gives_nothing(running: Running) -> None:
    steps = [
        step("broken", on_failure="ignore"),
        step("odd", {"was": Result("broken")}, key="odd", on_failure="ignore"),
        step("sum", {"xs": []}, after=["odd"]),
    ]
    await running.ps.workflows.start(steps, id="i")
    assert (await running.workflow("i")).state == "completed"
    assert await running.ps.workflows.results("i") == {
        "broken": None,
        "odd": None,
        "sum": {"sum": 0},
    }
    assert (await running.ps.jobs.get("i.odd")).payload == {"was": None}


async def test_a_workflow_is_cancelled_as_one(running: Running) -> None:
    later = [step("greet", {"user": user}, key=user, delay=3600) for user in ("ada", "bob")]
    await running.ps.workflows.start([*later, step("sum", {"xs": []}, after=["ada"])], id="x")
    assert (await running.ps.workflows.cancel("x", "enough")).state == "cancelled"
    jobs = await running.all_over("x.ada", "x.bob")
    assert {(job.state, job.reason) for job in jobs} == {("cancelled", "workflow:x is over")}
    with pytest.raises(JobFailed, match="cancelled: enough"):
        await running.ps.workflows.result("x")
    assert [w.id for w in await running.ps.workflows.list(state="cancelled")] == ["workflow:x"]


async def test_a_job_cancelled_by_hand_fails_its_workflow(running: Running) -> None:
    later = [step("greet", {"user": user}, key=user, delay=3600) for user in ("ada", "bob")]
    await running.ps.workflows.start(later, id="h")
    await running.ps.jobs.cancel("h.ada", "by hand")
    await running.workflow("h")
    with pytest.raises(JobFailed, match="ada: by hand"):
        await running.ps.workflows.result("h")
    assert (await running.over("h.bob")).state == "cancelled"


async def test_a_step_that_cannot_be_enqueued_fails_and_says_why(running: Running) -> None:
    await running.ps.jobs.enqueue("greet", {"user": "ada"}, id="taken.double", delay=100)
    wrong = {
        "p": ([step("double", {"x": Result("numbers", "no.such")})], r"There is no 'no\.such'"),
        "map": ([step("double", {"x": Item()}, each="greet")], "is not a list"),
        "taken": ([step("double", {"x": 1})], "is a job 'taken.double'"),
        "taken2": ([step("greet", {"user": 1}, key="g")], r"\$.*user"),
    }
    first = [step("numbers", {"count": 1}), step("greet", {"user": "ada"})]
    for id, (steps, why) in wrong.items():
        await running.ps.workflows.start([*(first if id in ("p", "map") else []), *steps], id=id)
        await running.workflow(id)
        with pytest.raises(JobFailed, match=why):
            await running.ps.workflows.result(id)


async def test_what_cannot_run_or_is_another_workflow_is_refused(running: Running) -> None:
    with pytest.raises(InvalidMessage, match="circle"):
        await running.ps.workflows.start([step("a", after=["b"]), step("b", after=["a"])])
    one = await running.ps.workflows.start([step("a")], id="w")
    assert await running.ps.workflows.start([step("a")], id="w") == one
    with pytest.raises(Refused, match="with other steps"):
        await running.ps.workflows.start([step("b")], id="w")
