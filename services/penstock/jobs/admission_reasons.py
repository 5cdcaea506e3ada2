"""Why a job does not start, as the view and the workers tell. Never decides."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import apsw

from penstock.contracts.errors import NotFound
from penstock.contracts.gates import Why, WhyJob
from penstock.contracts.job_state import JobState
from penstock.contracts.queues import QueueState, queue_id
from penstock.infra import clock
from penstock.infra.queries import Query
from penstock.jobs import gate_view, queue_view
from penstock.jobs.gate import WINDOW, Gate, gates, opens
from penstock.jobs.workers import Workers
from penstock.jobs.workers_missing import who_is_missing

Reason = tuple[str, str]  # what it waits for, and a sentence


def why(db: apsw.Connection, params: WhyJob, workers: Workers) -> Why:
    """Raises NotFound."""
    found = gate_view.jobs(db, [params.id])
    if not found:
        raise NotFound(f"There is no job {params.id!r}.", id=params.id)
    [job] = found
    reasons = list(_reasons(db, job, workers)) if job.state in ("pending", "retrying") else []
    return Why(
        id=job.id,
        state=job.state,
        waits_for=tuple(name for name, _ in reasons),
        because=tuple(sentence for _, sentence in reasons),
    )


def _reasons(db: apsw.Connection, job: JobState, workers: Workers) -> Iterator[Reason]:
    now = clock.now()
    queue = queue_view.one(db, queue_id(job.queue))
    weights = queue.weights if queue else {}
    waits = job.run_at is not None and job.run_at > now
    if waits:
        yield "time", f"It is to run at {job.run_at:%Y-%m-%d %H:%M:%S} UTC, not before."
    if queue and queue.paused:
        yield "queue", _paused(queue)
    at_gates = list(_at_gates(db, job, weights, now))
    yield from at_gates
    if not (waits or at_gates or (queue and queue.paused)):
        yield "worker", _worker(workers, job)


def _worker(workers: Workers, job: JobState) -> str:
    # In the first seconds of an instance nobody may have been heard of yet.
    missing = who_is_missing(workers, job.queue, job.name) if workers.are_known() else None
    return missing or f"It waits for a worker of the queue {job.queue!r} to be free."


def _at_gates(
    db: apsw.Connection, job: JobState, weights: dict[str, int], now: datetime
) -> Iterator[Reason]:
    for gate in gates(job, lambda _, tenant: WINDOW * weights.get(tenant, 1)):
        state = gate_view.gate(db, gate.id)
        if state and job.id in state.holders:
            continue
        moment = opens(state, gate, now)
        if moment is None or moment > now:
            yield gate.id.split(":")[1], _closed(gate, moment, len(state.holders) if state else 0)


def _closed(gate: Gate, moment: datetime | None, held: int) -> str:
    kind, key = gate.id.split(":", 2)[1:]
    if moment is not None:
        return f"The rate {key!r} lets the next one through at {moment:%H:%M:%S.%f} UTC."
    if kind == "limit":
        return f"{gate.capacity} jobs with the limit {key!r} run or are about to, and no more may."
    return f"{held} jobs of the {kind} {key!r} wait for a worker before it."


def _paused(queue: QueueState) -> str:
    why = f" ({queue.reason})" if queue.reason else ""
    return f"The queue {queue.name!r} is paused{why}: `penstock queues resume {queue.name}`."


def queries(workers: Workers) -> list[Query[Any]]:
    """The question, answered from the view and from what workers say of themselves."""
    return [
        Query(
            name="why",
            path="/jobs/why/{id}",
            params=WhyJob,
            returns=Why,
            read=lambda db, params: why(db, params, workers),
            summary="Why a job does not start: its time, a paused queue, a limit, no worker for it",
        ),
    ]
