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
from multiprocessing.connection import Connection
from typing import Any

from penstock.client.worker.child import CHILD, Call, Done, Logged, Progressed, Raised, Saved, serve
from penstock.client.worker.context import JobContext
from penstock.client.worker.described import TRACEBACK
from penstock.client.worker.handlers import Handler
from penstock.contracts.errors import PenstockError

ENDING = 2.0  # seconds that an idle child gets to end


class ProcessDied(Exception):  # noqa: N818 - named for what happened
    """The process that ran the handler ended, by itself or by a signal."""


class HandlerFailed(Exception):  # noqa: N818 - named for what happened
    """The handler raised something that cannot be brought here from its process."""


class _Child:
    """One process, and the pipe to it."""

    def __init__(self, name: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other,), name=name, daemon=True)
        before = os.environ.get(CHILD)
        os.environ[CHILD] = "1"
        try:
            self.process.start()
        finally:
            if before is None:
                del os.environ[CHILD]
        other.close()

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


class Processes:
    """Up to `most` children, begun when they are needed."""

    def __init__(self, most: int, name: str) -> None:
        self._name = name
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
        return await asyncio.to_thread(_Child, f"{self._name}-lane")

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
                        await _save(child.pipe, context, message.value)
        except (EOFError, OSError) as error:
            await asyncio.to_thread(child.process.join, ENDING)
            raise ProcessDied(_how(child.process.exitcode)) from error


async def _save(pipe: Connection, context: JobContext, value: Any) -> None:
    problem = None
    try:
        await context.save_checkpoint(value)
    except PenstockError as error:
        problem = str(error)
    pipe.send(problem)


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
