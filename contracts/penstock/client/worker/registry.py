"""Which function does which job, and when: the handlers of an application, in one module or more.

Never runs any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar, Unpack

import msgspec

from penstock.client.schedule_terms import Terms, put_command
from penstock.client.worker.by_function import remember
from penstock.client.worker.declared import Declared
from penstock.client.worker.handlers import Handler, Lane
from penstock.client.worker.policy import RetryPolicy

F = TypeVar("F", bound=Callable[..., Any])


class Handlers:
    """Handlers by their names. A `Worker` is one; others are added to it by `include`."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}
        self._schedules: dict[str, Declared] = {}
        self._by_schedule: set[Callable[..., Any]] = set()

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
            if function in self._by_schedule:
                raise TypeError(
                    f"Say @schedule above @register_handler({name!r}), and not below: "
                    "it is for the handler that stands there."
                )
            self._add(handler)
            remember(function, handler)
            return function

        return register

    def handler(self, function: F) -> F:
        """The same without options, the function's own name being that of the jobs."""
        return self.register_handler(function.__name__)(function)

    def schedule(
        self,
        cron: str | None = None,
        *,
        name: str | None = None,
        payload: Mapping[str, Any] | None = None,
        **terms: Unpack[Terms],
    ) -> Callable[[F], F]:
        """Have the handler below run with `payload` at the times that `cron` or `every` tell.

        Stands above `register_handler` or `handler`, or alone, for a handler of the function's own
        name. The terms are those of `ps.schedules.put`, and `name` is the schedule's, the handler's
        if none is given. The schedule is put whenever a worker starts: by however many there is
        one, a changed declaration changes it, a paused one stays paused. One that is declared no
        longer stays until it is deleted. Raises InvalidMessage for a payload that the handler does
        not take, ValueError for a name that is taken by another schedule.
        """

        def declare(function: F) -> F:
            handler = self._handler_of(function)
            handler.arguments(msgspec.json.encode(payload or {}))
            command = put_command(handler.name, payload, cron=cron, **terms)
            self._declare(Declared(name or handler.name, command))
            return function

        return declare

    def include(self, others: Handlers) -> None:
        """Take what another module has as well. Raises ValueError for a name in both."""
        for handler in others:
            self._add(handler)
        for declared in others.schedules:
            self._declare(declared)

    @property
    def schedules(self) -> Sequence[Declared]:
        """Those that are declared here."""
        return tuple(self._schedules.values())

    def __iter__(self) -> Iterator[Handler]:
        return iter(self._handlers.values())

    def _handler_of(self, function: Callable[..., Any]) -> Handler:
        """The one that was registered last, or one by the function's own name."""
        found = [one for one in self if one.function is function]
        if not found:
            self.handler(function)
            self._by_schedule.add(function)
            return self._handlers[function.__name__]
        return found[-1]

    def _declare(self, declared: Declared) -> None:
        present = self._schedules.setdefault(declared.name, declared)
        if differing := declared.differs_from(present):
            raise ValueError(
                f"Two schedules are called {declared.name!r} and differ in "
                f"{', '.join(differing)}; give one of them another name."
            )

    def _add(self, handler: Handler) -> None:
        if handler.name in self._handlers:
            raise ValueError(f"There is a handler for {handler.name!r} already.")
        self._handlers[handler.name] = handler
