"""What the parts of the SDK share: connection, present flow, reading one's own writes."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from penstock.contracts.answers import (
    Accepted,
    Answer,
    ById,
    HistoryEntry,
    HistoryOf,
    Outcome,
    Question,
)
from penstock.contracts.envelope import type_of
from penstock.contracts.errors import NotFound, Timeout, Unavailable
from penstock.infra.bus import Bus
from penstock.infra.sender import Cause, Sender

T = TypeVar("T")
POLL = 20.0  # seconds that one watch request waits for news
RETRY = 0.2  # seconds between attempts while a service is away

_cause: ContextVar[Cause | None] = ContextVar("penstock_cause", default=None)


@contextmanager
def caused_by(cause: Cause) -> Iterator[None]:
    """Every command inside belongs to this flow and has this cause."""
    token = _cause.set(cause)
    try:
        yield
    finally:
        _cause.reset(token)


def have_cause(cause: Cause) -> None:
    """Every command in the rest of the present task belongs to this flow and has this cause."""
    _cause.set(cause)


def present_cause() -> Cause | None:
    """The flow that the code runs in, if it runs in one."""
    return _cause.get()


class Session:
    """One application's connection: commands out, answers in."""

    def __init__(self, bus: Bus, *, actor: str | None = None, timeout: float = 10.0) -> None:
        self.bus = bus
        self.actor = actor
        self.timeout = timeout
        self._sender = Sender(bus)
        self._written: dict[str, int] = {}

    async def command(
        self,
        command: msgspec.Struct,
        *,
        id: str,
        command_id: str | None = None,
        timeout: float | None = None,
    ) -> Outcome:
        """Send a command and wait for its outcome. `timeout` in seconds.

        Raises the service's refusal, Unavailable, or Timeout (the command is then stored). Give a
        `command_id` of your own to make sending twice harmless across restarts.
        """
        command_id = command_id or uuid.uuid4().hex
        outcome = await self._sender.send(
            command,
            id=id,
            command_id=command_id,
            cause=self._cause(command_id),
            timeout=self.timeout if timeout is None else timeout,
        )
        self.wrote(type_of(type(command)).service, outcome.sequence)
        return outcome

    async def post(
        self, command: msgspec.Struct, *, id: str, command_id: str | None = None
    ) -> Accepted:
        """Send a command without waiting for its outcome; it is stored when this returns."""
        command_id = command_id or uuid.uuid4().hex
        return await self._sender.post(
            command, id=id, command_id=command_id, cause=self._cause(command_id)
        )

    async def ask(
        self, service: str, name: str, question: Question, returns: type[T]
    ) -> tuple[T, Answer]:
        """Ask a view, which answers no earlier than it has folded what this session wrote."""
        written = self._written.get(service, 0)
        if written > question.min_seq:
            question = replace(question, min_seq=written)
        return await self._sender.ask(service, name, question, returns)

    async def get(self, service: str, id: str, returns: type[T], *, at: str | int | None) -> T:
        """One aggregate now, or as it was `at` a stream sequence or time. Raises NotFound."""
        question = ById(id=id, at=None if at is None else str(at))
        state, _ = await self.ask(service, "get", question, returns)
        return state

    async def history(self, service: str, id: str) -> list[HistoryEntry]:
        """Every event of one aggregate: what, who, why, when. Raises NotFound."""
        entries, _ = await self.ask(service, "history", HistoryOf(id=id), list[HistoryEntry])
        return entries

    async def watch(self, service: str, id: str, returns: type[T]) -> AsyncIterator[T]:
        """The present state, and each later one. Never ends by itself, never repeats a state.

        States that follow each other faster than they are asked for are skipped: each one given is
        the newest. While the service is away the watch waits for it.
        """
        seen = 0
        while True:
            written = self._written.get(service, 0)
            question = ById(id=id, after=seen, wait=POLL, min_seq=written)
            try:
                state, answer = await self._sender.ask(service, "get", question, returns)
            except (NotFound, Timeout):
                continue  # each has waited already
            except Unavailable:
                await asyncio.sleep(RETRY)
                continue
            if answer.revision > seen:
                seen = answer.revision
                yield state

    def wrote(self, service: str, sequence: int) -> None:
        """Remember the sequence of an own write, so that later reads reflect it."""
        self._written[service] = max(sequence, self._written.get(service, 0))

    def _cause(self, command_id: str) -> Cause:
        cause = _cause.get() or Cause(correlationid=command_id)
        return cause if cause.actor else replace(cause, actor=self.actor)


def state_of(outcome: Outcome, returns: type[T]) -> T:
    """The state in an outcome."""
    return msgspec.json.decode(outcome.data, type=returns)
