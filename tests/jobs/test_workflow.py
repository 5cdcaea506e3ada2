"""Workflows by equality: given events, when a command comes, then events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.contracts.envelope import wrap
from penstock.contracts.errors import InvalidMessage, NotFound, Refused, TooLarge
from penstock.contracts.workflow_state import (
    WorkflowState,
    dependencies,
    job_id,
    place_of,
    told_together,
)
from penstock.contracts.workflows import (
    AdvanceWorkflow,
    CancelWorkflow,
    End,
    JobEnded,
    RestartWorkflow,
    StartWorkflow,
    Step,
    StepEnded,
    StepsEnded,
    StepsStarted,
    StepStarted,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowFailed,
    WorkflowRestarted,
    WorkflowStarted,
)
from penstock.infra.deciding.decider import Context
from penstock.jobs.workflow import decide, evolve
from penstock.jobs.workflow_payload import filled

NOW = datetime(2026, 1, 31, tzinfo=UTC)
ID = "workflow:w"


def step(key: str, *after: str, **options: Any) -> Step:
    return Step(key=key, name=key, after=after, **options)


class Given:
    """A workflow as its commands made it; `when` gives the events of one more."""

    def __init__(self, *steps: Step, **options: Any) -> None:
        self.state: WorkflowState | None = None
        self.sent = 0
        if steps:
            self.begun = self.when(StartWorkflow(steps=steps, **options))

    def when(self, command: msgspec.Struct) -> list[Any]:
        self.sent += 1
        envelope = wrap(command, id=f"c{self.sent}", subject=ID, time=NOW, correlationid="f")
        events = list(decide(self.state, command, Context(NOW, envelope)))  # type: ignore[arg-type]
        for event in events:
            stored = wrap(event, id="e", subject=ID, time=NOW, correlationid="f", cause=envelope)
            self.state = evolve(self.state, event, stored)
        return events

    def ends(self, job: str, outcome: Any = "completed", **told: Any) -> list[Any]:
        return self.when(AdvanceWorkflow(job=f"w.{job}", how=outcome, **told))

    def stand(self) -> dict[str, str]:
        assert self.state
        return {key: run.state for key, run in self.state.runs.items()}


def test_a_workflow_starts_the_steps_that_wait_for_nothing() -> None:
    steps = (step("a"), step("b", "a"), step("c"))
    assert Given(*steps).begun == [
        WorkflowStarted(steps=steps),
        StepsStarted(steps=(StepStarted(key="a"), StepStarted(key="c"))),
    ]


def test_a_step_starts_once_all_that_it_depends_on_is_completed() -> None:
    workflow = Given(step("a"), step("b"), step("c", "a", payload={"x": {"$result": "b"}}))
    assert workflow.ends("a") == [StepEnded(key="a", how="completed")]
    assert workflow.ends("b")[1:] == [StepStarted(key="c")]
    assert workflow.ends("c")[1:] == [WorkflowCompleted()]


def test_an_end_that_is_told_twice_or_of_a_job_of_another_counts_once() -> None:
    workflow = Given(step("a"), step("b", "a"))
    workflow.ends("a")
    assert workflow.ends("a") == workflow.ends("x") == workflow.ends("b~1") == []
    assert workflow.when(AdvanceWorkflow(job="other.b", how="failed")) == []


def test_ends_that_are_told_together_are_one_event_and_each_counts_once() -> None:
    workflow = Given(step("a", each=(1, 2)), step("b", "a"))
    more = tuple(JobEnded(job=f"w.{job}", how="completed") for job in ("a.1", "a.0", "x"))
    ended = [StepEnded(key="a", index=index, how="completed") for index in (0, 1)]
    assert workflow.ends("a.0", more=more) == [
        StepsEnded(ends=tuple(ended)),
        StepStarted(key="b"),
    ]
    assert workflow.ends("a.0", more=more) == []


def test_failures_that_are_told_together_skip_what_waits_for_any_of_them() -> None:
    steps = (step("a"), step("b"), step("c", "a"), step("d", "b"), step("e", "c", "d"), step("f"))
    workflow = Given(*steps, on_failure="continue")
    more = (JobEnded(job="w.b", how="cancelled"), JobEnded(job="w.f", how="completed"))
    assert workflow.ends("a", "failed", error="boom", more=more)[1:] == [
        WorkflowFailed(failed=("a", "b"))
    ]
    stand = {"a": "failed", "b": "failed", "c": "skipped", "d": "skipped", "e": "skipped"}
    assert workflow.stand() == {**stand, "f": "completed"}


def test_a_mapped_step_has_a_job_for_each_element_that_was_returned() -> None:
    workflow = Given(step("a"), step("b", each="a"), step("c", each="b"))
    assert workflow.ends("a", size=2)[1:] == [StepStarted(key="b", jobs=2)]
    assert workflow.ends("b.1") == [StepEnded(key="b", index=1, how="completed")]
    assert workflow.ends("b.0")[1:] == [StepStarted(key="c", jobs=2)]


def test_a_step_mapped_over_nothing_is_completed_at_once() -> None:
    workflow = Given(step("a", each=()), step("b", "a"))
    assert workflow.begun[1:] == [StepStarted(key="a", jobs=0), StepStarted(key="b")]


def test_a_step_mapped_over_what_is_no_list_fails() -> None:
    workflow = Given(step("a"), step("b", each="a"))
    ended, failed = workflow.ends("a")[1:]
    assert (ended.index, ended.error) == (None, "What the step 'a' returned is not a list.")
    assert failed == WorkflowFailed(failed=("b",))


def test_stop_fails_the_workflow_with_its_first_failed_job() -> None:
    workflow = Given(step("a"), step("b"), step("c", "b"))
    assert workflow.ends("a", "failed", error="boom")[1:] == [WorkflowFailed(failed=("a",))]
    assert workflow.stand() == {"a": "failed", "b": "cancelled", "c": "skipped"}
    assert workflow.ends("b", "cancelled") == []


def test_continue_runs_what_does_not_depend_on_the_failed_step() -> None:
    workflow = Given(step("a"), step("b"), step("c", "a"), step("d", "b"), on_failure="continue")
    assert len(workflow.ends("a", "cancelled")) == 1
    assert workflow.ends("b")[1:] == [StepStarted(key="d")]
    assert workflow.ends("d")[1:] == [WorkflowFailed(failed=("a",))]
    assert workflow.stand()["c"] == "skipped"


def test_a_failure_that_is_ignored_counts_as_completed() -> None:
    workflow = Given(step("a", on_failure="ignore"), step("b", "a"))
    assert workflow.ends("a", "failed")[1:] == [StepStarted(key="b")]


def test_a_restart_runs_only_what_is_not_completed_with_new_jobs() -> None:
    workflow = Given(step("a"), step("b", "a", each=(1, 2)), step("c", "b"))
    workflow.ends("a")
    workflow.ends("b.0")
    workflow.ends("b.1", "failed")
    events = workflow.when(RestartWorkflow())
    assert events == [WorkflowRestarted(), StepStarted(key="b", jobs=2)]
    assert workflow.state and workflow.state.job_ids("b") == ["w.b.0", "w.b.1~1"]
    assert workflow.ends("b.1", "failed") == []
    assert workflow.ends("b.1~1")[1:] == [StepStarted(key="c")]


def test_a_cancelled_workflow_starts_nothing_more_until_it_is_restarted() -> None:
    workflow = Given(step("a"), step("b", "a"))
    assert workflow.when(CancelWorkflow(reason="r")) == [WorkflowCancelled(reason="r")]
    assert workflow.when(CancelWorkflow()) == workflow.ends("a") == []
    assert workflow.when(RestartWorkflow()) == [WorkflowRestarted(), StepStarted(key="a")]
    assert workflow.state and workflow.state.job_ids("a") == ["w.a~1"]


def test_what_is_over_is_neither_cancelled_nor_restarted() -> None:
    workflow = Given(step("a"))
    workflow.ends("a")
    for command in (CancelWorkflow(), RestartWorkflow()):
        with pytest.raises(Refused, match="is completed"):
            workflow.when(command)
    with pytest.raises(NotFound):
        Given().when(CancelWorkflow())


def test_the_same_steps_again_are_the_same_workflow_and_others_are_refused() -> None:
    workflow = Given(step("a"))
    assert workflow.when(StartWorkflow(steps=(step("a"),))) == []
    with pytest.raises(Refused, match="other steps"):
        workflow.when(StartWorkflow(steps=(step("b"),)))


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        ([step("a"), step("a")], "Two steps have the key 'a'"),
        ([step("a", "x")], "The step 'a' depends on 'x', which is no step"),
        ([step("a", each="x")], "depends on 'x'"),
        ([step("a", payload={"p": [{"$result": "x"}]})], "depends on 'x'"),
        ([step("a", "b"), step("b", "a")], "circle: "),
        ([step("a", payload={"p": {"$item": True}})], "asks for its item or index"),
        ([step("a"), step("b", payload={"p": {"$result": "a", "x": 1}})], "has a reference that"),
    ],
)
def test_steps_that_cannot_run_are_refused_with_a_sentence(
    steps: list[Step], sentence: str
) -> None:
    with pytest.raises(InvalidMessage, match=sentence.replace("$", r"\$")):
        Given(*steps)


def test_a_workflow_without_steps_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="no steps"):
        Given().when(StartWorkflow(steps=()))


def test_too_many_steps_or_elements_are_refused() -> None:
    with pytest.raises(TooLarge, match="2001 steps"):
        Given(*(step(f"s{n}") for n in range(2_001)))
    with pytest.raises(TooLarge, match="10001 elements"):
        Given(step("a", each=(1,) * 10_001))


def test_a_payload_is_filled_with_results_items_and_indices() -> None:
    payload = {
        "all": {"$result": "a"},
        "part": [{"$result": "a", "path": "x.1"}],
        "item": {"$item": True, "path": "n"},
        "number": {"$index": True},
    }
    found = filled(payload, {"a": {"x": [1, 2]}}, {"n": 5}, 7)
    assert found == {"all": {"x": [1, 2]}, "part": [2], "item": 5, "number": 7}
    with pytest.raises(InvalidMessage, match=r"There is no 'x\.9' in the result of 'a'"):
        filled({"$result": "a", "path": "x.9"}, {"a": {"x": []}})


@pytest.mark.parametrize(("index", "generation"), [(None, 0), (3, 0), (None, 2), (3, 2)])
def test_the_id_of_a_job_tells_its_place(index: int | None, generation: int) -> None:
    id = job_id("workflow:w.x", "a", index, generation)
    assert place_of("workflow:w.x", id) == ("a", index or 0, generation)


@st.composite
def graphs(draw: st.DrawFn) -> list[Step]:
    steps: list[Step] = []
    for number in range(draw(st.integers(1, 8))):
        before = [one.key for one in steps]
        after = draw(st.sets(st.sampled_from(before), max_size=3)) if before else set()
        each = draw(st.sampled_from([None, (), (1, 2, 3)]))
        ignored = draw(st.sampled_from(["fail", "ignore"]))
        steps.append(step(f"s{number}", *sorted(after), each=each, on_failure=ignored))
    return draw(st.permutations(steps))


@settings(max_examples=150)
@given(graphs(), st.sampled_from(["stop", "continue"]), st.data())
def test_every_step_runs_after_all_it_depends_on_ends_and_never_runs_twice(
    steps: list[Step], policy: str, data: st.DataObject
) -> None:
    workflow = Given(*steps, on_failure=policy)
    seen: set[str] = set()
    while workflow.state and not workflow.state.is_over:
        under_way = running(workflow.state)
        assert under_way, "nothing runs and nothing ends"
        ended = data.draw(st.sets(st.sampled_from(sorted(under_way)), min_size=1, max_size=3))
        assert seen.isdisjoint(ended)
        seen |= ended
        hows: st.SearchStrategy[End] = st.sampled_from(["completed", "completed", "failed"])
        told = [JobEnded(job=f"w.{job}", how=data.draw(hows)) for job in sorted(ended)]
        workflow.when(told_together(told))
    assert set(workflow.stand().values()) <= {"completed", "failed", "skipped", "cancelled"}


def running(state: WorkflowState) -> set[str]:
    found: set[str] = set()
    for one in state.steps:
        letters = state.runs[one.key].jobs
        if letters is not None:
            assert all(state.runs[key].state == "completed" for key in dependencies(one))
            ids = zip(state.job_ids(one.key), letters, strict=True)
            found |= {id.removeprefix("w.") for id, letter in ids if letter == "."}
    return found
