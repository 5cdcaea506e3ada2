"""What is asked about many states in memory, answered by the services' own views. Never decides.

A view folds what happened when it is first asked, and after that what happened since.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import UnionType
from typing import Any, NamedTuple

import apsw
import msgspec

from penstock.client.testing.absent import absent, stand_in
from penstock.client.testing.log import MemoryLog
from penstock.contracts.answers import Question
from penstock.contracts.envelope import invalid
from penstock.contracts.notifications import FeedState
from penstock.contracts.progress import ProgressState
from penstock.contracts.workers import WorkerSign
from penstock.infra import clock
from penstock.infra.queries import Query
from penstock.infra.views.read_model import ReadModel
from penstock.infra.views.view import Folded, View
from penstock.jobs import admission_reasons, estimates, views, workers_view
from penstock.jobs.domain import State
from penstock.jobs.workers import Workers
from penstock.notifications.views import INBOX_QUERY, InboxView
from penstock.progress.views import QUERIES as OF_PROGRESS
from penstock.progress.views import ProgressView


class Asked(NamedTuple):
    """A service's view, and what can be asked of it."""

    view: View[Any]
    state: type[Any] | UnionType
    queries: Sequence[Query[Any]]


class InMemory(ReadModel[Any]):
    """A read model without a file; only its writer can ask it."""

    def _make(self) -> apsw.Connection:
        db = apsw.Connection(":memory:")
        db.execute(self._schema)
        return db


class Reading:
    """The view of one log."""

    def __init__(self, log: MemoryLog, asked: Asked) -> None:
        self._log = log
        self._model = InMemory(Path(), asked.view, asked.state, whole=False)
        self._queries = {query.name: query for query in asked.queries}
        self._folded = 0

    def answer(self, name: str, question: Question, now: datetime) -> Any:
        """What is found at the virtual time `now`. Raises as the query does, and NotInMemory."""
        query = self._queries.get(name)
        if query is None:
            raise absent(f"the question {name!r} to {self._log.service}")
        self._fold()
        with clock.saying(now):
            return query.read(self._model.writer, _checked(query, question))

    def close(self) -> None:
        """Close the database."""
        self._model.close()

    def _fold(self) -> None:
        new = self._log.happened[self._folded :]
        self._folded += len(new)
        if new:
            self._model.write([Folded(*one) for one in new], self._log.newest)


class Readings:
    """The views of all services; `sign` is the last one of the worker whose handlers are run."""

    def __init__(
        self,
        logs: Mapping[str, MemoryLog],
        clock: Callable[[], datetime],
        sign: Callable[[], WorkerSign],
    ) -> None:
        self._logs = logs
        self._clock = clock
        self._sign = sign
        bus = stand_in("the connection to NATS")
        self._workers = Workers(bus, clock=lambda: clock().timestamp())
        of_workers: list[Query[Any]] = [
            *workers_view.queries(self._workers),
            *estimates.queries(self._workers),
            *admission_reasons.queries(self._workers),
        ]
        self._of_workers = {query.name for query in of_workers}
        self._asked = {
            "jobs": Asked(views.JobsView(), State, [*views.QUERIES, *of_workers]),
            "progress": Asked(ProgressView(), ProgressState, OF_PROGRESS),
            "notifications": Asked(InboxView(), FeedState, [INBOX_QUERY]),
        }
        self._opened: dict[str, Reading] = {}

    def answer(self, service: str, name: str, question: Question) -> Any:
        """What is found now. Raises as the query does, and NotInMemory."""
        if service not in self._asked:
            raise absent(f"the question {name!r} to {service}")
        if service not in self._opened:
            self._opened[service] = Reading(self._logs[service], self._asked[service])
        if name in self._of_workers:
            self._workers.hear(self._sign())
        return self._opened[service].answer(name, question, self._clock())

    def close(self) -> None:
        """Close the databases."""
        for one in self._opened.values():
            one.close()


def _checked(query: Query[Any], question: Question) -> Any:
    try:
        return msgspec.json.decode(msgspec.json.encode(question), type=query.params)
    except msgspec.ValidationError as error:
        raise invalid(error, f"The query {query.name}") from error
