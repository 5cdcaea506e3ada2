"""Processes for handlers that compute, or that may take their process down. Never runs a handler.

Each child runs one handler at a time and is reused. One that dies takes its own job along and no
other, and is replaced. A pool of the standard library cannot stop one of its processes, which is
why this is here. What a child does is in `child`.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any

from penstock.client.penstock import Penstock
from penstock.client.worker.child import (
    CHILD,
    SIGNALS,
    Call,
    Done,
    Enqueued,
    Logged,
    Progressed,
    Raised,
    Saved,
    serve,
)
from penstock.client.worker.context import JobContext
from penstock.client.worker.described import TRACEBACK
from penstock.client.worker.handlers import Handler
from penstock.contracts.errors import PenstockError

STARTING = 120.0  # seconds that a child gets to import the program
ENDING = 2.0  # seconds that an idle child gets to end


class ProcessDied(Exception):  # noqa: N818 - named for what happened
    """The process that ran the handler ended, by itself or by a signal."""


class HandlerFailed(Exception):  # noqa: N818 - named for what happened
    """The handler raised something that cannot be brought here from its process."""


class _Child:
    """One process, and the pipe to it; made in a thread, and ready for calls once it is there.

    Raises ProcessDied if it does not get that far.
    """

    def __init__(self, name: str, make_client: Callable[[], Penstock]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(
            target=serve, args=(other, make_client), name=name, daemon=True
        )
        with _marked_as_child(), _signals_held_back():
            self.process.start()
        other.close()
        try:
            if not self.pipe.poll(STARTING):
                self.signal(signal.SIGKILL)
            self.pipe.recv()
        except (EOFError, OSError) as error:
            self.process.join(ENDING)
            raise ProcessDied(_how(self.process.exitcode)) from error

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self.process.pid is not None and self.process.exitcode is None:
                os.kill(self.process.pid, number)

    async def end(self, seconds: float) -> None:
        """Wait for its end; kill it after `seconds`."""
        await asyncio.to_thread(self.process.join, seconds)
        self.signal(signal.SIGKILL)
        await asyncio.to_thread(self.process.join, ENDING)
        self.pipe.close()


@contextlib.contextmanager
def _marked_as_child() -> Iterator[None]:
    before = os.environ.get(CHILD)
    os.environ[CHILD] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[CHILD]


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """A process started inside acts on no signal until it is in a group of its own: one that was
    sent to the worker's whole group is the worker's to act on.
    """
    resource_tracker.ensure_running()  # which would let them through again in this thread
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Processes:
    """Up to `most` children, begun when they are needed; `make_client`, which can be pickled, gives
    what handlers have for `ctx.ps`.
    """

    def __init__(self, most: int, name: str, make_client: Callable[[], Penstock]) -> None:
        self._name = name
        self._make_client = make_client
        self._slots = asyncio.Semaphore(most)
        self._idle: list[_Child] = []
        self._ending: set[asyncio.Task[None]] = set()

    async def run(
        self, handler: Handler, arguments: dict[str, Any], context: JobContext, grace: float
    ) -> Any:
        """What the handler returns. Raises what it raises, or ProcessDied.

        When the caller is cancelled the process gets SIGTERM, and SIGKILL after `grace` seconds.
        """
        async with self._slots:
            child = await self._child()
            try:
                outcome = await self._outcome(child, Call.of(handler, arguments, context), context)
            except BaseException:
                child.signal(signal.SIGTERM)
                self._let_end(child, grace)
                raise
            self._idle.append(child)
        if isinstance(outcome, Raised):
            raise _brought(outcome)
        return outcome.value

    async def stop(self) -> None:
        """End all of them."""
        for child in self._idle:
            child.pipe.close()
            self._let_end(child, ENDING)
        self._idle.clear()
        await asyncio.gather(*self._ending, return_exceptions=True)

    async def _child(self) -> _Child:
        while self._idle:
            child = self._idle.pop()
            if child.process.is_alive():
                return child
            self._let_end(child, 0.0)
        return await asyncio.to_thread(_Child, f"{self._name}-lane", self._make_client)

    def _let_end(self, child: _Child, seconds: float) -> None:
        task = asyncio.create_task(child.end(seconds), name="lane-process-ends")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _outcome(self, child: _Child, call: Call, context: JobContext) -> Done | Raised:
        try:
            await asyncio.to_thread(child.pipe.send, call)
            while True:
                message = await _received(child.pipe)
                match message:
                    case Done() | Raised():
                        return message
                    case Progressed():
                        context.progress(message.percent, stage=message.stage, message=message.text)
                    case Logged():
                        context.log(message.text, level=message.level)
                    case Saved():
                        await _answer(child.pipe, context.save_checkpoint(message.value))
                    case Enqueued():
                        job = context.enqueue(message.name, message.payload, **message.options)
                        await _answer(child.pipe, job)
        except (EOFError, OSError) as error:
            await asyncio.to_thread(child.process.join, ENDING)
            raise ProcessDied(_how(child.process.exitcode)) from error


async def _answer(pipe: Connection, call: Awaitable[Any]) -> None:
    """Send what the call returns, or what it raises and the child can raise again."""
    answer: Any
    try:
        answer = await call
    except PenstockError as error:
        answer = error.problem()
    except (TypeError, ValueError) as error:  # of wrong options, or what JSON cannot carry
        answer = error
    await asyncio.to_thread(pipe.send, answer)


async def _received(pipe: Connection) -> Any:
    """The next message of a child. Raises EOFError or OSError once it is gone."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[None] = loop.create_future()

    def readable() -> None:
        if not arrived.done():
            arrived.set_result(None)

    loop.add_reader(pipe.fileno(), readable)
    try:
        if not pipe.poll():
            await arrived
    finally:
        loop.remove_reader(pipe.fileno())
    # In a thread: all of a large result arrives only as fast as the child sends it.
    return await asyncio.to_thread(pipe.recv)


def _how(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"The process that ran the handler was ended by {signal.Signals(-exitcode).name}."
    return f"The process that ran the handler ended with exit status {exitcode}."


def _brought(outcome: Raised) -> Exception:
    error = outcome.error or HandlerFailed(f"{outcome.type}: {outcome.message}")
    setattr(error, TRACEBACK, outcome.traceback)
    return error
