"""What follows from a workflow's state: its jobs enqueued or cancelled. Never decides.

A workflow asks its jobs directly, and a job tells its workflow by a command of its own (see
`workflow_telling`): neither ever waits for the other while it is held itself. Every step may be
done again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from penstock.contracts.envelope import Envelope, wrap
from penstock.contracts.errors import (
    Archived,
    InvalidMessage,
    PenstockError,
    from_problem,
)
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import EnqueueJob
from penstock.contracts.jobs_bulk import MOST
from penstock.contracts.workflow_state import (
    LONGEST_ERROR,
    MOST_ENDS,
    WorkflowState,
    advance_id,
    told_together,
)
from penstock.contracts.workflows import JobEnded
from penstock.infra.bus import Bus
from penstock.infra.deciding.aggregate import Aggregate
from penstock.infra.deciding.decider import Load
from penstock.infra.sender import Cause, Sender
from penstock.jobs.at_once import each
from penstock.jobs.bulk_items import Item
from penstock.jobs.workflow_jobs import asked, cancelling, enqueueing, of_another, under_way
from penstock.jobs.workflow_payload import filled
from penstock.jobs.workflow_results import StepResults

PARTS_AT_ONCE = 2  # of many jobs: one is stored while the other is made
PART_BYTES = 2 * 1024 * 1024  # of payloads
Cancel = Callable[[Sequence[Envelope]], Awaitable[int]]
Enqueue = Callable[[Sequence[Item], Envelope], Awaitable[None]]
Made = tuple[str, EnqueueJob | PenstockError]  # a job's id, and the job or why there is none


class WorkflowEffects:
    """`load` is the service's own; `enqueue` and `cancel` are for many jobs."""

    def __init__(
        self,
        bus: Bus,
        results: StepResults,
        load: Load[Any],
        enqueue: Enqueue,
        cancel: Cancel,
    ) -> None:
        self._sender = Sender(bus)
        self._results = results
        self._load = load
        self._enqueue_all = enqueue
        self._cancel_all = cancel

    async def effect(self, workflow: Aggregate[WorkflowState], command: Envelope) -> int:
        """Enqueue the jobs that `command` began, or cancel those that it ended; see `Decider`."""
        state = workflow.state
        if state is None:
            return 0
        if state.is_over:
            return await self._cancel(state, command) if state.ended_by == command.id else 0
        begun = [key for key, run in state.runs.items() if run.begun_by == command.id]
        if begun:
            await self.enqueue(state, {key: state.under_way(key) for key in begun}, command)
        return 0

    # -- enqueueing ----------------------------------------------------------------------------

    async def enqueue(
        self, state: WorkflowState, wanted: Mapping[str, Sequence[int]], cause: Envelope
    ) -> None:
        """Enqueue the jobs with these numbers, by the keys of their steps; those that are there
        already stay.

        A job that cannot be enqueued counts as failed. Raises Unavailable or Timeout.
        """
        needed = {one for key in wanted for one in asked(state.step(key))}
        found = await self._results.of_steps(state, sorted(needed))
        parts = _parts(_jobs(state, wanted, found))

        async def work(_: int) -> None:
            for part in parts:  # the others take from it, too: few are in memory at a time
                await self._enqueue(state, part, cause)

        await each(range(PARTS_AT_ONCE), work, at_once=PARTS_AT_ONCE)
        await self._cancel_if_over(state, cause)

    async def _enqueue(self, state: WorkflowState, part: Sequence[Made], cause: Envelope) -> None:
        items = [
            Item(_command(job, f"{id}:enqueue", id, cause), job)
            for id, job in part
            if isinstance(job, EnqueueJob)
        ]
        await self._enqueue_all(items, cause)
        refused = {id: job for id, job in part if isinstance(job, PenstockError)}
        refused |= {item.command.subject: e for item in items if (e := _refusal(state, item))}
        for n in range(0, len(refused), MOST_ENDS):
            await self._not_enqueued(state, list(refused.items())[n : n + MOST_ENDS], cause)

    async def _not_enqueued(
        self, state: WorkflowState, refused: Sequence[tuple[str, PenstockError]], cause: Envelope
    ) -> None:
        told = [
            JobEnded(job=id, how="failed", error=str(error)[:LONGEST_ERROR])
            for id, error in refused
        ]
        why = Cause(correlationid=cause.correlationid, event=cause, actor=cause.actor)
        command_id = advance_id([f"{id}:not-enqueued" for id, _ in refused])
        await self._sender.post(told_together(told), id=state.id, command_id=command_id, cause=why)

    # -- cancelling ----------------------------------------------------------------------------

    async def _cancel_if_over(self, state: WorkflowState, command: Envelope) -> None:
        """Another instance may have ended the workflow, before some of its jobs were there."""
        now = (await self._load(state.id)).state
        if not isinstance(now, WorkflowState) or now.is_over:
            await self._cancel(state, command)

    async def _cancel(self, state: WorkflowState, command: Envelope) -> int:
        """Cancel every job that was under way in `state`; the sequence of the last event."""
        ids, cancel, last = under_way(state), cancelling(state), 0
        for n in range(0, len(ids), MOST):
            part = [
                _command(cancel, f"{command.id}:{id}:cancel", id, command)
                for id in ids[n : n + MOST]
            ]
            last = max(last, await self._cancel_all(part))
        return last


def _jobs(
    state: WorkflowState, wanted: Mapping[str, Sequence[int]], found: Mapping[str, Any]
) -> Iterator[Made]:
    """The jobs with these numbers, or why there cannot be one."""
    for key, numbers in wanted.items():
        ids, step = state.job_ids(key), state.step(key)
        results = {one: found[one] for one in asked(step)}
        gone = next((one for one in results.values() if isinstance(one, PenstockError)), None)
        items = results.get(step.each) if isinstance(step.each, str) else step.each
        for index in numbers:
            if gone is not None:
                yield ids[index], gone
                continue
            item = items[index] if items is not None else None
            try:
                payload = filled(step.payload, results, item, index)
            except InvalidMessage as error:
                yield ids[index], error
            else:
                yield ids[index], enqueueing(state, step, payload)


def _parts(jobs: Iterator[Made]) -> Iterator[list[Made]]:
    """Some at a time, which with their payloads fit into one append of the size of a batch."""
    part, size = list[Made](), 0
    for id, job in jobs:
        part.append((id, job))
        size += len(msgspec.json.encode(job.payload)) if isinstance(job, EnqueueJob) else 0
        if len(part) == MOST or size >= PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _refusal(state: WorkflowState, item: Item) -> PenstockError | None:
    """Why the job is not there as one of this workflow; one that is over has told so."""
    assert item.enqueued is not None
    if item.enqueued.problem is not None:
        error = from_problem(item.enqueued.problem)
        return None if isinstance(error, Archived) else error
    origin = item.state.origin if isinstance(item.state, JobState) else None
    return of_another(item.command.subject, origin, item.data)


def _command(data: msgspec.Struct, id: str, subject: str, cause: Envelope) -> Envelope:
    return wrap(
        data,
        id=id,
        subject=subject,
        time=datetime.now(UTC),
        correlationid=cause.correlationid,
        cause=cause,
        actor=cause.actor,
        traceparent=cause.traceparent,
    )
