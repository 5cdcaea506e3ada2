"""What a process of the process lane does: one handler call after the other, told by a pipe.

Talks to NATS only where a handler does, by `ctx.ps`: what a handler tells of its job goes through
the pipe, to the worker.
"""

from __future__ import annotations

import inspect
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, TypeVar

from penstock.client.penstock import Penstock
from penstock.client.session import caused_by, present_cause
from penstock.client.worker.by_function import name_of
from penstock.client.worker.child_client import ChildClient
from penstock.client.worker.context import AWAIT_INSTEAD, JobContext, is_loop_running
from penstock.client.worker.handlers import Handler
from penstock.contracts.errors import Problem, from_problem
from penstock.contracts.job_state import JobState
from penstock.infra.sender import Cause

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # blocked in such a process until it is ready
T = TypeVar("T")
CHILD = "PENSTOCK_LANE_PROCESS"  # set in the environment of such a process


class Call(NamedTuple):
    """A handler to be called; the function goes by its name, as the standard library pickles it."""

    function: Callable[..., Any]
    arguments: dict[str, Any]
    contexts: list[str]
    job: dict[str, Any]
    cause: Cause

    @classmethod
    def of(cls, handler: Handler, arguments: dict[str, Any], context: JobContext) -> Call:
        """The call of `handler` for the job of `context`."""
        job = {name: getattr(context, name) for name in SHOWN}
        cause = present_cause() or Cause(correlationid=context.correlationid)
        return cls(handler.function, arguments, handler.contexts, job, cause)


class Done(NamedTuple):
    """The handler returned."""

    value: Any


class Raised(NamedTuple):
    """The handler raised: the exception where it can be pickled, and what it said."""

    error: Exception | None
    type: str
    message: str
    traceback: str


class Progressed(NamedTuple):
    """`ctx.progress` was called."""

    percent: float
    stage: str | None
    text: str | None


class Logged(NamedTuple):
    """`ctx.log` was called."""

    text: str
    level: str


class Saved(NamedTuple):
    """`ctx.save_checkpoint` was called, and waits for an answer: None, or what went wrong."""

    value: Any


class Enqueued(NamedTuple):
    """`ctx.enqueue` was called, and waits for an answer: the child, or what went wrong."""

    name: str
    payload: Mapping[str, Any] | None
    options: dict[str, Any]


SHOWN = ("id", "name", "attempt", "max_attempts", "correlationid", "deadline", "checkpoint")


class ChildContext(JobContext):
    """The context in a process of its own: what it tells goes through the pipe.

    `ps` has a connection of its own, which is made when it is first used. An async handler runs on
    the loop of that connection.
    """

    def __init__(self, pipe: Connection, client: ChildClient, job: dict[str, Any]) -> None:
        self._pipe = pipe
        self._client = client
        for name in SHOWN:
            setattr(self, name, job[name])

    id: str
    deadline: datetime | None

    @property
    def ps(self) -> Penstock:  # type: ignore[override]  # where others have it from the start
        """See `JobContext`. Raises Unavailable if no system can be reached from here."""
        return self._client.ps

    @property
    def is_cancelled(self) -> bool:
        """False: a process that is to stop gets SIGTERM, which raises SystemExit in the handler."""
        return False

    def progress(
        self, percent: float, *, stage: str | None = None, message: str | None = None
    ) -> None:
        """See `JobContext.progress`."""
        self._pipe.send(Progressed(percent, stage, message))

    def log(self, message: str, *, level: str = "info") -> None:
        """See `JobContext.log`."""
        self._pipe.send(Logged(message, level))

    async def save_checkpoint(self, value: Any) -> None:
        """See `JobContext.save_checkpoint`."""
        self._asked(Saved(value))
        self.checkpoint = value

    async def enqueue(
        self,
        name: str | Callable[..., Any],
        payload: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> JobState:
        """See `JobContext.enqueue`."""
        name = name_of(name, payload or {})
        found: JobState = self._asked(Enqueued(name, payload, options))
        return found

    def _asked(self, question: Saved | Enqueued) -> Any:
        self._pipe.send(question)
        answer = self._pipe.recv()
        if isinstance(answer, Problem):
            raise from_problem(answer)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """See `JobContext.run`."""
        if is_loop_running():
            call.close()
            raise RuntimeError(AWAIT_INSTEAD)
        return self._client.run(call)


def serve(pipe: Connection, make_client: Callable[[], Penstock]) -> None:
    """Call what is asked for until the pipe ends; `ctx.ps` is what `make_client` makes."""
    _leave_group()
    threading.Thread(target=_end_with_worker, daemon=True).start()
    client = ChildClient(make_client)
    try:
        pipe.send(None)  # ready
        while True:
            pipe.send(_called(pipe, client, pipe.recv()))
    except (EOFError, OSError):
        return
    finally:
        client.close()


def _leave_group() -> None:
    """From now on only the worker's own SIGTERM counts, and not one for the worker's group."""
    os.setsid()
    for number in SIGNALS:  # what came for the group until now is forgotten
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    signal.signal(signal.SIGTERM, _stop)


def _end_with_worker() -> None:
    """A worker that was killed runs its job no more: another one has it."""
    worker = multiprocessing.parent_process()
    if worker is not None:
        worker.join()
        os._exit(1)


def _stop(_number: int, _frame: Any) -> None:
    raise SystemExit(143)


def _called(pipe: Connection, client: ChildClient, call: Call) -> Done | Raised:
    context = dict.fromkeys(call.contexts, ChildContext(pipe, client, call.job))
    try:
        with caused_by(call.cause):
            value = call.function(**call.arguments, **context)
            if not inspect.iscoroutine(value):
                return Done(value)
            if context:
                client.connect()  # on its loop nothing could wait for that
            return Done(client.run(value))
    except Exception as error:  # noqa: BLE001 - becomes the job's error
        return _raised(error)


def _raised(error: Exception) -> Raised:
    text = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
        kept: Exception | None = error
    except Exception:  # noqa: BLE001 - whatever its class does when it is pickled
        kept = None
    return Raised(kept, type(error).__name__, str(error), text)
