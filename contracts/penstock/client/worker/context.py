"""What a handler is given and what it may raise. Never runs a handler."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from penstock.client.penstock import Penstock

T = TypeVar("T")


class PermanentFailure(Exception):  # noqa: N818 - named for what happened
    """Raise it in a handler to fail the job at once: no further attempt can help.

    Its message is the job's error.
    """


class JobContext:
    """The job that a handler works on; given to a parameter annotated with this class.

    `attempt` counts from 1. Commands sent with `ps` belong to the job's flow and have this attempt
    as their cause.
    """

    def __init__(
        self,
        *,
        id: str,
        name: str,
        attempt: int,
        max_attempts: int,
        correlationid: str,
        ps: Penstock,
        loop: asyncio.AbstractEventLoop,
        stopping: threading.Event,
    ) -> None:
        self.id = id
        self.name = name
        self.attempt = attempt
        self.max_attempts = max_attempts
        self.correlationid = correlationid
        self.ps = ps
        self._loop = loop
        self._stopping = stopping

    @property
    def is_last_attempt(self) -> bool:
        """Whether the job fails for good if this attempt does."""
        return self.attempt >= self.max_attempts

    @property
    def is_cancelled(self) -> bool:
        """Whether to stop: the job was cancelled, its lease was lost, or the worker shuts down.

        An async handler is cancelled by itself; a sync one asks here now and then.
        """
        return self._stopping.is_set()

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Wait for a call of `ps` in a sync handler: `ctx.run(ctx.ps.progress.update(...))`.

        Raises what the call raises, and RuntimeError in an async handler, which awaits instead.
        """
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is not None:
            call.close()
            raise RuntimeError("An async handler awaits the call itself, without ctx.run.")
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()
