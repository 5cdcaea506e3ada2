"""What follows from a workflow's state: its jobs enqueued or cancelled. Never decides.

A workflow asks its jobs directly, and a job tells its workflow by a command of its own (see
`workflow_telling`): neither ever waits for the other while it is held itself. Every step may be
done again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from penstock.contracts.answers import Outcome
from penstock.contracts.envelope import Envelope, wrap
from penstock.contracts.errors import (
    Archived,
    Erased,
    InvalidMessage,
    NotFound,
    PenstockError,
    Refused,
    TooLarge,
)
from penstock.contracts.jobs import Origin
from penstock.contracts.workflow_state import WorkflowState
from penstock.contracts.workflows import AdvanceWorkflow, Step
from penstock.infra.bus import Bus
from penstock.infra.deciding.aggregate import Aggregate
from penstock.infra.deciding.decider import Load
from penstock.infra.sender import Cause, Sender
from penstock.jobs.at_once import AT_ONCE, each
from penstock.jobs.workflow_jobs import asked, cancelling, enqueueing, of_another, under_way
from penstock.jobs.workflow_payload import filled
from penstock.jobs.workflow_results import StepResults

Handle = Callable[[Envelope], Awaitable[Outcome]]


class _Enqueued(msgspec.Struct):
    origin: Origin | None = None


class WorkflowEffects:
    """`load` and `handle` are the service's own."""

    def __init__(self, bus: Bus, results: StepResults, load: Load[Any], handle: Handle) -> None:
        self._sender = Sender(bus)
        self._results = results
        self._load = load
        self._handle = handle
        self._slots = asyncio.Semaphore(AT_ONCE)  # steps and their jobs would be AT_ONCE times it

    async def effect(self, workflow: Aggregate[WorkflowState], command: Envelope) -> None:
        """Enqueue the jobs that `command` began, or cancel those that it ended; see `Decider`."""
        state = workflow.state
        if state is None:
            return
        if state.is_over:
            if state.ended_by == command.id:
                await self._cancel(state, command)
            return
        begun = [key for key, run in state.runs.items() if run.begun_by == command.id]
        if begun:
            await self.enqueue(state, {key: state.under_way(key) for key in begun}, command)

    # -- enqueueing ----------------------------------------------------------------------------

    async def enqueue(
        self, state: WorkflowState, wanted: Mapping[str, Sequence[int]], cause: Envelope
    ) -> None:
        """Enqueue the jobs with these numbers, by the keys of their steps; those that are there
        already stay.

        A job that cannot be enqueued counts as failed. Raises Unavailable or Timeout.
        """
        keys = list(wanted)
        await each(range(len(keys)), lambda n: self._begin(state, keys[n], wanted[keys[n]], cause))
        await self._cancel_if_over(state, cause)

    async def _begin(
        self, state: WorkflowState, key: str, wanted: Sequence[int], cause: Envelope
    ) -> None:
        ids, step = state.job_ids(key), state.step(key)
        try:
            results = {one: await self._results.of_step(state, one) for one in sorted(asked(step))}
        except (NotFound, TooLarge) as error:
            gone = error
            await each(wanted, lambda n: self._not_enqueued(state, ids[n], gone, cause))
            return
        items = results.get(step.each) if isinstance(step.each, str) else step.each

        async def one(index: int) -> None:
            item = items[index] if items is not None else None
            async with self._slots:
                await self._enqueue(state, step, ids[index], cause, (results, item, index))

        await each(wanted, one)

    async def _enqueue(
        self,
        state: WorkflowState,
        step: Step,
        id: str,
        command: Envelope,
        given: tuple[dict[str, Any], Any, int],
    ) -> None:
        try:
            job = enqueueing(state, step, filled(step.payload, *given))
            enqueue = _command(job, f"{id}:enqueue", id, command)
            outcome = await self._handle(enqueue)
            found = msgspec.json.decode(outcome.data, type=_Enqueued)
            if refusal := of_another(id, found.origin, job):
                raise refusal
        except Archived:
            return  # it is over, and has told so
        except (InvalidMessage, TooLarge, Refused, Erased) as error:
            await self._not_enqueued(state, id, error, command)

    async def _not_enqueued(
        self, state: WorkflowState, id: str, error: PenstockError, command: Envelope
    ) -> None:
        told = AdvanceWorkflow(job=id, how="failed", error=str(error))
        await self._post(told, state.id, f"{id}:not-enqueued", command)

    # -- cancelling ----------------------------------------------------------------------------

    async def _cancel_if_over(self, state: WorkflowState, command: Envelope) -> None:
        """Another instance may have ended the workflow, before some of its jobs were there."""
        now = (await self._load(state.id)).state
        if not isinstance(now, WorkflowState) or now.is_over:
            await self._cancel(state, command)

    async def _cancel(self, state: WorkflowState, command: Envelope) -> None:
        """Cancel every job that was under way in `state`."""
        ids, cancel = under_way(state), cancelling(state)

        async def one(index: int) -> None:
            id = ids[index]
            command_id = f"{command.id}:{id}:cancel"
            # Else it is over, or was never there.
            with contextlib.suppress(NotFound, Refused, Archived, Erased):
                await self._handle(_command(cancel, command_id, id, command))

        await each(range(len(ids)), one)

    async def _post(self, told: AdvanceWorkflow, id: str, command_id: str, cause: Envelope) -> None:
        why = Cause(correlationid=cause.correlationid, event=cause, actor=cause.actor)
        await self._sender.post(told, id=id, command_id=command_id, cause=why)


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
