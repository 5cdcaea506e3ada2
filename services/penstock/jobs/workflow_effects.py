"""What follows from a workflow's state: its jobs enqueued or cancelled. Never decides.

A workflow asks its jobs directly, and a job tells its workflow by a command of its own: neither
ever waits for the other while it is held itself. Every step may be done again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
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
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import CancelJob, EnqueueJob, Origin
from penstock.contracts.workflow_state import UNDER_WAY, WorkflowState, dependencies
from penstock.contracts.workflows import AdvanceWorkflow, End, Step
from penstock.infra.bus import Bus
from penstock.infra.deciding.aggregate import Aggregate
from penstock.infra.deciding.decider import Load
from penstock.infra.objects import Objects
from penstock.infra.sender import Cause, Sender
from penstock.jobs.workflow_payload import filled

Handle = Callable[[Envelope], Awaitable[Outcome]]

AT_ONCE = 64  # jobs that one workflow enqueues or cancels at a time


class _Enqueued(msgspec.Struct):
    origin: Origin | None = None


class WorkflowEffects:
    """`load` and `handle` are the service's own."""

    def __init__(self, bus: Bus, load: Load[Any], handle: Handle) -> None:
        self._sender = Sender(bus)
        self._objects = Objects(bus)
        self._load = load
        self._handle = handle

    async def effect(self, workflow: Aggregate[WorkflowState], command: Envelope) -> None:
        """Enqueue the jobs that `command` began, or cancel those that it ended; see `Decider`."""
        state = workflow.state
        if state is None:
            return
        if state.is_over:
            if state.ended_by == command.id:
                await self._cancel(state, command)
            return
        if begun := [key for key, run in state.runs.items() if run.begun_by == command.id]:
            for key in begun:
                await self._begin(state, state.step(key), command)
            await self._cancel_if_over(state, command)

    async def tell(self, job: Aggregate[JobState], command: Envelope) -> None:
        """Let the workflow of a job that is over know how it ended."""
        state, last = job.state, job.last
        if state is None or last is None or not state.is_over or state.discarded:
            return
        if state.origin is None or state.origin.workflow is None:
            return
        result = await self._returned(state)
        told = AdvanceWorkflow(
            job=state.id,
            how=msgspec.convert(state.state, End),
            size=len(result) if isinstance(result, list) else None,
            error=state.error.message if state.error else state.reason,
        )
        await self._post(told, state.origin.workflow, f"{last.id}:advance", last)

    # -- enqueueing ----------------------------------------------------------------------------

    async def _begin(self, state: WorkflowState, step: Step, command: Envelope) -> None:
        """Enqueue each job of the step that is under way."""
        ids, jobs = state.job_ids(step.key), state.runs[step.key].jobs or ""
        wanted = [index for index, letter in enumerate(jobs) if letter == UNDER_WAY]
        try:
            results = {key: await self._result(state, key) for key in sorted(_asked(step))}
        except NotFound as error:
            gone = error
            await _each(wanted, lambda n: self._not_enqueued(state, ids[n], gone, command))
            return
        items = results.get(step.each) if isinstance(step.each, str) else step.each

        async def enqueue(index: int) -> None:
            item = items[index] if items is not None else None
            await self._enqueue(state, step, ids[index], command, (results, item, index))

        await _each(wanted, enqueue)

    async def _enqueue(
        self,
        state: WorkflowState,
        step: Step,
        id: str,
        command: Envelope,
        given: tuple[dict[str, Any], Any, int],
    ) -> None:
        try:
            job = _job(state, step, filled(step.payload, *given))
            asked = _command(job, f"{id}:enqueue", id, command)
            outcome = await self._handle(asked)
            found = msgspec.json.decode(outcome.data, type=_Enqueued)
            if found.origin != job.origin:
                raise Refused(f"There is a job {id!r} already, which is not of this workflow.")
        except Archived:
            return  # it is over, and has told so
        except (InvalidMessage, TooLarge, Refused, Erased) as error:
            await self._not_enqueued(state, id, error, command)

    async def _not_enqueued(
        self, state: WorkflowState, id: str, error: PenstockError, command: Envelope
    ) -> None:
        told = AdvanceWorkflow(job=id, how="failed", error=str(error))
        await self._post(told, state.id, f"{id}:not-enqueued", command)

    async def _result(self, state: WorkflowState, key: str) -> Any:
        """What a step returned; of one with `each`, the list of it. Raises NotFound."""
        ids = state.job_ids(key)
        found: list[Any] = [None] * len(ids)

        async def get(index: int) -> None:
            job = (await self._load(ids[index])).state
            if not isinstance(job, JobState):
                raise NotFound(f"What the job {ids[index]!r} returned is in the archive.")
            found[index] = await self._returned(job)

        await _each(range(len(ids)), get)
        if state.step(key).each is not None:
            return found
        return found[0] if found else None

    async def _returned(self, job: JobState) -> Any:
        if job.state != "completed":
            return None
        if job.stored is None:
            return job.result
        return msgspec.json.decode(await self._objects.get(job.stored))

    # -- cancelling ----------------------------------------------------------------------------

    async def _cancel_if_over(self, state: WorkflowState, command: Envelope) -> None:
        """Another instance may have ended the workflow, before some of its jobs were there."""
        now = (await self._load(state.id)).state
        if not isinstance(now, WorkflowState) or now.is_over:
            await self._cancel(state, command)

    async def _cancel(self, state: WorkflowState, command: Envelope) -> None:
        """Cancel every job that was under way in `state`."""
        ids = [
            id
            for key, run in state.runs.items()
            for id, letter in zip(state.job_ids(key), run.jobs or "", strict=True)
            if letter == UNDER_WAY
        ]
        cancel = CancelJob(reason=f"{state.id} is over")

        async def one(index: int) -> None:
            id = ids[index]
            asked = _command(cancel, f"{command.id}:{id}:cancel", id, command)
            # Else it is over, or was never there.
            with contextlib.suppress(NotFound, Refused, Archived, Erased):
                await self._handle(asked)

        await _each(range(len(ids)), one)

    async def _post(self, told: AdvanceWorkflow, id: str, command_id: str, cause: Envelope) -> None:
        why = Cause(correlationid=cause.correlationid, event=cause, actor=cause.actor)
        await self._sender.post(told, id=id, command_id=command_id, cause=why)


def _asked(step: Step) -> set[str]:
    """The keys of the steps whose results it is given."""
    return dependencies(msgspec.structs.replace(step, after=()))


def _job(state: WorkflowState, step: Step, payload: dict[str, Any]) -> EnqueueJob:
    return EnqueueJob(
        name=step.name,
        payload=payload,
        queue=step.queue,
        priority=step.priority,
        delay=step.delay,
        max_attempts=step.max_attempts,
        backoff=step.backoff,
        tags=state.tags,
        rules=step.rules,
        origin=Origin(workflow=state.id),
    )


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


async def _each(numbers: Iterable[int], do: Callable[[int], Awaitable[None]]) -> None:
    """Do it for every number, some at a time. Raises the first error, with the rest given up."""
    waiting = iter(numbers)

    async def work() -> None:
        for number in waiting:
            await do(number)

    workers = [asyncio.create_task(work()) for _ in range(AT_ONCE)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
