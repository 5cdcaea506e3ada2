"""Which worker is missing, if none that lives would take a job. Never waits for one."""

from __future__ import annotations

from penstock.contracts.workers import WorkerSign
from penstock.jobs.workers import Workers


def who_is_missing(workers: Workers, queue: str, name: str) -> str | None:
    """Why no worker takes a job of `name` from `queue`, in a sentence; None if one would."""
    alive = workers.alive()
    listening = [one for one in alive if queue in one.queues]
    if any(_has(one, name) and not one.draining for one in listening):
        return None
    if not listening:
        return (
            f"No worker listens on the queue {queue!r}: start one with "
            f"`penstock worker MODULE:WORKER --queues {queue}`."
        )
    if not any(_has(one, name) for one in listening):
        elsewhere = _elsewhere(alive, name)
        return f"No worker of the queue {queue!r} has a handler for {name!r} now{elsewhere}."
    return f"Every worker of the queue {queue!r} with a handler for {name!r} is about to end."


def _has(worker: WorkerSign, name: str) -> bool:
    return any(one.name == name for one in worker.handlers)


def _elsewhere(alive: list[WorkerSign], name: str) -> str:
    queues = sorted({queue for one in alive if _has(one, name) for queue in one.queues})
    return f"; there is one for {', '.join(map(repr, queues))}" if queues else ""
