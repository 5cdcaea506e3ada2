"""Workflows: the state that their events make, the ids of their jobs, and the questions about them.

Keeps no results: those are in the jobs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec

from penstock.contracts.answers import Question
from penstock.contracts.envelope import Time
from penstock.contracts.workflows import PREFIX, AdvanceWorkflow, JobEnded, OnFailure, Step

State = Literal["processing", "completed", "failed", "cancelled"]
StepState = Literal["waiting", "processing", "completed", "failed", "cancelled", "skipped"]
FINAL = ("completed", "failed", "cancelled")
MOST_ENDS = 300  # that one command tells of
LONGEST_ERROR = 400  # characters; so many of the longest fit into one command

UNDER_WAY, COMPLETED, FAILED, CANCELLED, IGNORED = ".cfxi"


class StepRun(msgspec.Struct, frozen=True, kw_only=True):
    """How a step stands. `jobs` has a letter for each of its jobs: `.` under way, `c` completed,
    `f` failed, `x` cancelled, `i` failed and ignored; it is None before the step began.

    `size` is the length of the list that the step gives, if it gives one. `again` has the
    generation of each job that runs anew since a restart. `begun_by` is the command that had its
    present jobs enqueued.
    """

    state: StepState = "waiting"
    jobs: str | None = None
    size: int | None = None
    error: str | None = None
    again: dict[int, int] = {}
    begun_by: str | None = None


class WorkflowState(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="workflow"):
    """A workflow. `runs` has how each of its `steps` stands, by key. `generation` counts restarts.

    `ended_by` is the command that ended it, `reason` why it was cancelled.
    """

    id: str
    state: State = "processing"
    steps: tuple[Step, ...]
    runs: dict[str, StepRun]
    on_failure: OnFailure = "stop"
    metadata: dict[str, Any] = {}
    tags: tuple[str, ...] = ()
    generation: int = 0
    reason: str | None = None
    created: Time
    ended: Time | None = None
    ended_by: str | None = None
    correlationid: str

    @property
    def is_over(self) -> bool:
        """True once nothing more will happen, unless it is restarted."""
        return self.state != "processing"

    @property
    def last_steps(self) -> tuple[str, ...]:
        """The keys of the steps that no other one depends on."""
        needed = {key for step in self.steps for key in dependencies(step)}
        return tuple(step.key for step in self.steps if step.key not in needed)

    def step(self, key: str) -> Step:
        """The step of that key. Raises KeyError."""
        for step in self.steps:
            if step.key == key:
                return step
        raise KeyError(key)

    def job_ids(self, key: str) -> list[str]:
        """The ids of a step's present jobs, in order."""
        run, mapped = self.runs[key], self.step(key).each is not None
        return [
            job_id(self.id, key, index if mapped else None, run.again.get(index, 0))
            for index in range(len(run.jobs or ""))
        ]

    def under_way(self, key: str) -> list[int]:
        """The numbers of a step's jobs that are under way."""
        jobs = self.runs[key].jobs or ""
        return [index for index, letter in enumerate(jobs) if letter == UNDER_WAY]


class ListWorkflows(Question, frozen=True, kw_only=True, omit_defaults=True):
    """Workflows, newest first; `before` is the id of the last one of the page before."""

    state: State | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100
    before: str | None = None


def job_id(workflow: str, key: str, index: int | None, generation: int) -> str:
    """The id of one job of a workflow; `index` is None for a step without `each`."""
    number = "" if index is None else f".{index}"
    again = f"~{generation}" if generation else ""
    return f"{workflow.removeprefix(PREFIX)}.{key}{number}{again}"


def place_of(workflow: str, job: str) -> tuple[str, int, int] | None:
    """The key, index and generation in a job's id, or None if it is not of that workflow."""
    start = f"{workflow.removeprefix(PREFIX)}."
    if not job.startswith(start):
        return None
    name, _, generation = job[len(start) :].partition("~")
    key, _, index = name.partition(".")
    if not all(part.isdecimal() for part in (index or "0", generation or "0")):
        return None
    return key, int(index or 0), int(generation or 0)


def told_together(ends: Sequence[AdvanceWorkflow | JobEnded]) -> AdvanceWorkflow:
    """The command that tells a workflow of up to MOST_ENDS ends."""
    first, *others = ends
    more = [JobEnded(job=one.job, how=one.how, size=one.size, error=one.error) for one in others]
    return AdvanceWorkflow(
        job=first.job, how=first.how, size=first.size, error=first.error, more=tuple(more)
    )


def advance_id(causes: Sequence[str]) -> str:
    """The id of the command that tells of the ends that these are the ids of.

    Another one for other ends: told again, they may be together with others.
    """
    first, *others = causes
    if not others:
        return f"{first}:advance"
    key = hashlib.blake2b("\0".join(others).encode(), digest_size=16).hexdigest()
    return f"{first}:advance:{key}"


def dependencies(step: Step) -> set[str]:
    """The keys of the steps that have to be completed before this one runs."""
    mapped = {step.each} if isinstance(step.each, str) else set()
    return {*step.after, *mapped, *references(step.payload)}


def references(value: Any) -> set[str]:
    """The keys of the steps whose results a payload asks for."""
    if isinstance(value, dict):
        if isinstance(key := value.get("$result"), str):
            return {key}
        return set().union(*map(references, value.values()))
    if isinstance(value, list | tuple):
        return set().union(*map(references, value))
    return set()
