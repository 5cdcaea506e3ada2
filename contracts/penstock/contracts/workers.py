"""What a worker says of itself, every few seconds over core NATS. Never stored, never any logic."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from penstock.contracts.envelope import Time

RUNNING_SHOWN = 100  # jobs that one sign names at most


class HandlerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A job name that a worker can do. `payload` is its JSON Schema, only now and then."""

    name: str
    lane: Literal["async", "thread", "process"]
    payload: dict[str, Any] | None = None


class RunningJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job in a worker's hands."""

    id: str
    name: str
    attempt: int
    since: Time | None = None


class WorkerSign(msgspec.Struct, frozen=True, kw_only=True):
    """A sign of life. `version` is the application's own; `jobs` counts all that are running, of
    which `running` names the first.
    """

    name: str
    host: str
    pid: int
    started: Time
    time: Time
    penstock: str
    version: str | None = None
    queues: tuple[str, ...]
    concurrency: int
    lease: float
    draining: bool = False
    stopped: bool = False
    problem: str | None = None
    jobs: int = 0
    handlers: tuple[HandlerInfo, ...] = ()
    running: tuple[RunningJob, ...] = ()
