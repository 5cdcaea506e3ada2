"""Questions about a view, asked over NATS and over HTTP alike. Never changes anything."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, Literal, TypeVar

import apsw
import msgspec
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from penstock.contracts.answers import Answer, Question
from penstock.contracts.envelope import invalid
from penstock.contracts.errors import PenstockError, TooLarge, Unavailable
from penstock.infra.bus import Bus
from penstock.infra.telemetry import QUERIES

log = logging.getLogger(__name__)

Q = TypeVar("Q", bound=Question)
LONGEST_WAIT = 30.0
AT_ONCE = 10_000  # questions in hand, most of them waiting for news

_encode = msgspec.json.Encoder().encode


class Query(msgspec.Struct, Generic[Q], frozen=True, kw_only=True):
    """A question that a service answers from its view.

    `read` runs in a reader's thread, in one transaction; raise NotFound where nothing is found.
    `path` is the HTTP path, whose `{names}` are fields of `params`; with POST the body is them.
    Without a path it is answered over NATS only: for those with credentials, never for browsers.
    """

    name: str
    path: str | None
    params: type[Q]
    returns: Any
    read: Callable[[apsw.Connection, Q], Any]
    method: Literal["GET", "POST"] = "GET"
    summary: str = ""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A query bound to its service: `ask` gives the Answer, or raises a PenstockError."""

    name: str
    path: str | None
    params: type[msgspec.Struct]
    returns: Any
    ask: Callable[[Any], Awaitable[Answer]]
    method: Literal["GET", "POST", "DELETE"] = "GET"
    summary: str = ""


class QueryResponder:
    """Answers a service's queries over core NATS; several instances share them."""

    def __init__(self, bus: Bus, service: str, endpoints: Sequence[Endpoint]) -> None:
        self._bus = bus
        self._service = service
        self._endpoints = {e.name: (e, msgspec.json.Decoder(e.params)) for e in endpoints}
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Begin to answer."""
        self._subscription = await self._bus.nc.subscribe(
            self._bus.subjects.query(self._service, "*"),
            queue=f"{self._service}-queries",
            cb=self._take,
        )

    async def stop(self) -> None:
        """Take no more questions, and end those that wait."""
        if self._subscription and not self._bus.nc.is_closed:
            await self._subscription.unsubscribe()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take(self, msg: Msg) -> None:
        if len(self._tasks) >= AT_ONCE:
            busy = Unavailable(f"{self._service} has {AT_ONCE} questions in hand; ask again later.")
            await msg.respond(_encode(Answer(problem=busy.problem())))
            return
        task = asyncio.create_task(self._respond(msg))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _respond(self, msg: Msg) -> None:
        name = msg.subject.rpartition(".")[2]
        answer = await self._answer(name, msg.data)
        if msg.reply:
            await self._bus.nc.publish(msg.reply, self._fitting(answer))
        QUERIES.labels(self._service, name, "failed" if answer.problem else "done").inc()

    def _fitting(self, answer: Answer) -> bytes:
        """The answer as it is sent, or that it is too large for that."""
        body = _encode(answer)
        try:
            self._bus.check_size(len(body))
        except TooLarge:
            problem = TooLarge(
                f"The answer has {len(body)} bytes; ask for less at a time."
            ).problem()
            return _encode(Answer(problem=problem))
        return body

    async def _answer(self, name: str, body: bytes) -> Answer:
        if name not in self._endpoints:
            known = ", ".join(sorted(self._endpoints))
            unknown = PenstockError(f"{self._service} has no query {name!r}; it has {known}.")
            return Answer(problem=unknown.problem())
        endpoint, decoder = self._endpoints[name]
        try:
            return await endpoint.ask(decoder.decode(body or b"{}"))
        except msgspec.DecodeError as error:
            return Answer(problem=invalid(error, f"The query {name}").problem())
        except PenstockError as error:
            return Answer(sequence=error.fields.get("sequence", 0), problem=error.problem())
        except Exception as error:
            log.exception("%s: the query %s failed", self._service, name)
            failed = PenstockError(f"The query failed: {type(error).__name__}; see the log.")
            return Answer(problem=failed.problem())
