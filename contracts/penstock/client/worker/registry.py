"""Which function does which job: the handlers of an application, in one module or in several.

Never runs any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from penstock.client.worker.by_function import remember
from penstock.client.worker.handlers import Handler, Lane
from penstock.client.worker.policy import RetryPolicy

F = TypeVar("F", bound=Callable[..., Any])


class Handlers:
    """Handlers by their names. A `Worker` is one; others are added to it by `include`."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    def register_handler(
        self,
        name: str,
        *,
        retry: RetryPolicy | None = None,
        timeout: float | timedelta | None = None,
        lane: Lane | None = None,
        stages: Sequence[str] = (),
    ) -> Callable[[F], F]:
        """Run the function below for jobs called `name`, payload fields as its arguments.

        Arguments are checked against the annotations, and a parameter annotated `JobContext` gets
        the job. `retry` says what follows an exception, by its class. `timeout` is an attempt's, in
        seconds. An `async def` runs on the worker's loop and a `def` in a thread, or either in a
        process of its own with `lane="process"`. `stages` are those of the job's progress. Raises
        TypeError for a function that cannot be called so, ValueError for a name that is taken.
        """

        def register(function: F) -> F:
            handler = Handler(
                name, function, policy=retry, timeout=timeout, lane=lane, stages=stages
            )
            self._add(handler)
            remember(function, handler)
            return function

        return register

    def handler(self, function: F) -> F:
        """The same without options, the function's own name being that of the jobs."""
        return self.register_handler(function.__name__)(function)

    def include(self, others: Handlers) -> None:
        """Take the handlers of another module as well. Raises ValueError for a name in both."""
        for handler in others:
            self._add(handler)

    def __iter__(self) -> Iterator[Handler]:
        return iter(self._handlers.values())

    def _add(self, handler: Handler) -> None:
        if handler.name in self._handlers:
            raise ValueError(f"There is a handler for {handler.name!r} already.")
        self._handlers[handler.name] = handler
