"""A Session that the pure domains answer in memory. Never leaves the process, never waits.

What it cannot answer raises NotInMemory and says so.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec.structs import replace

from penstock.client.session import Session, present_cause
from penstock.client.testing.absent import absent, stand_in
from penstock.client.testing.behind import Behind
from penstock.client.testing.bulk import One, answered, became, changes_of, jobs_of
from penstock.client.testing.domains import domains
from penstock.client.testing.log import MemoryLog
from penstock.contracts.answers import (
    Accepted,
    Answer,
    ById,
    FlowOf,
    HistoryEntry,
    HistoryOf,
    Outcome,
    Question,
)
from penstock.contracts.envelope import Envelope, invalid, type_of, wrap
from penstock.contracts.errors import PenstockError, from_problem
from penstock.contracts.jobs_bulk import (
    Changed,
    ChangedJobs,
    DiscardJobs,
    Enqueued,
    EnqueuedJobs,
    EnqueueJobs,
    RedriveJobs,
)
from penstock.contracts.subjects import token
from penstock.infra.deciding.decider import Context
from penstock.infra.sender import Cause

if TYPE_CHECKING:
    from penstock.client.testing.reading import Readings

T = TypeVar("T")


class MemorySession(Session):
    """What is stored is in `logs`, by service."""

    def __init__(self, behind: Behind) -> None:
        self.bus = stand_in("the connection to NATS")
        self.actor = None
        self.timeout = 10.0
        self.logs = {name: MemoryLog(name, domain) for name, domain in domains().items()}
        self._behind = behind
        self._readings: Readings | None = None
        self._answers: dict[tuple[str, ...], Outcome] = {}
        self._written = {}

    def clock(self) -> datetime:
        """The virtual time."""
        return self._behind.now

    def close(self) -> None:
        """Let go of what answers took."""
        if self._readings is not None:
            self._readings.close()

    # -- commands ----------------------------------------------------------------------------

    async def command(
        self,
        command: msgspec.Struct,
        *,
        id: str,
        command_id: str | None = None,
        timeout: float | None = None,
    ) -> Outcome:
        """Decide now; the same command again is answered as before. Raises the refusal."""
        await others_turn()
        outcome = self.carry_out(command, id, command_id)
        if outcome.problem is not None:
            raise from_problem(outcome.problem)
        return outcome

    async def post(
        self, command: msgspec.Struct, *, id: str, command_id: str | None = None
    ) -> Accepted:
        """Decide now; a refusal is nobody's to hear, as on the real system."""
        outcome = self.carry_out(command, id, command_id)
        return Accepted(id=outcome.id, subject=id)

    def carry_out(
        self,
        command: msgspec.Struct,
        id: str,
        command_id: str | None = None,
        cause: Cause | None = None,
    ) -> Outcome:
        """What became of a command. Raises InvalidMessage for an impossible id, NotInMemory."""
        token(id)
        key = command_id or uuid.uuid4().hex
        match command:
            case EnqueueJobs():
                became = [self._enqueued(one) for one in jobs_of(command, id, key)]
                return answered(key, became, EnqueuedJobs)
            case RedriveJobs() | DiscardJobs():
                changes = [self._changed(one) for one in changes_of(command, id, key)]
                return answered(key, changes, ChangedJobs)
        sent = (id, key, type(command).__name__, msgspec.json.encode(command).decode())
        known = self._answers.get((id, key)) or self._answers.get(sent)
        if known is None:
            known = self._answers[sent] = self._decided(command, id, key, cause)
        return known

    def _decided(self, data: Any, id: str, key: str, cause: Cause | None) -> Outcome:
        log = self._log_of(data)
        envelope = self._envelope(data, id, key, cause or self._cause(key))
        try:
            data = _validated(data)
            facts = self._behind.check(data, id)
            events = log.domain.decide(
                log.states.get(id), data, Context(self.clock(), envelope, facts)
            )
        except PenstockError as refusal:
            return Outcome(id=key, problem=refusal.problem())
        for place, event in enumerate(events, 1):
            log.append(
                id,
                event,
                event_id=f"{key}:{place}",
                now=self.clock(),
                correlationid=envelope.correlationid,
                cause=envelope,
                actor=envelope.actor,
            )
        state = msgspec.Raw(msgspec.json.encode(log.states.get(id)))
        outcome = Outcome(id=key, sequence=log.sequence(id), data=state)
        if events:
            self._answers[id, key] = outcome
        self._behind.follow(log.service, id, envelope, data)
        return outcome

    def _enqueued(self, one: One | Enqueued) -> Enqueued:
        if isinstance(one, Enqueued):
            return one
        existed = one.id in self.logs["jobs"].states and (one.id, one.key) not in self._answers
        outcome = self.carry_out(one.command, one.id, one.key)
        return became(one.id, outcome, existed=existed)

    def _changed(self, one: One | Changed) -> Changed:
        if isinstance(one, Changed):
            return one
        outcome = self.carry_out(one.command, one.id, one.key)
        return Changed(id=one.id, sequence=outcome.sequence, problem=outcome.problem)

    def _log_of(self, command: msgspec.Struct) -> MemoryLog:
        log = self.logs.get(type_of(type(command)).service)
        if log is None or not isinstance(command, log.domain.commands):
            raise absent(str(type_of(type(command))))
        return log

    def _envelope(self, data: msgspec.Struct, id: str, key: str, cause: Cause) -> Envelope:
        return wrap(
            data,
            id=key,
            subject=id,
            time=self.clock(),
            correlationid=cause.correlationid,
            cause=cause.event,
            actor=cause.actor,
        )

    def _cause(self, command_id: str) -> Cause:
        cause = present_cause() or Cause(correlationid=command_id)
        return cause if cause.actor else replace(cause, actor=self.actor)

    # -- questions ---------------------------------------------------------------------------

    async def ask(
        self, service: str, name: str, question: Question, returns: type[T]
    ) -> tuple[T, Answer]:
        """What the views say. Raises NotFound, InvalidMessage or NotInMemory."""
        log = self.logs.get(service)
        found: Any
        match question:
            case FlowOf():
                found = [] if log is None else log.flow(question.id)
            case ById(at=None) if log is not None:
                found = log.found(question.id)
            case ById(at=str(at)) if log is not None:
                found = log.at(question.id, at)
            case HistoryOf() if log is not None:
                found = log.entries(question.id)
            case _:
                found = self._read(service, name, question)
        body = msgspec.json.encode(found)
        return msgspec.json.decode(body, type=returns), Answer(sequence=log.newest if log else 0)

    def _read(self, service: str, name: str, question: Question) -> Any:
        if self._readings is None:
            from penstock.client.testing.reading import Readings  # needs the jobs extra

            self._readings = Readings(self.logs, self.clock, self._behind.sign)
        return self._readings.answer(service, name, question)

    async def get(self, service: str, id: str, returns: type[T], *, at: str | int | None) -> T:
        """One aggregate now, or as it was `at` a sequence or virtual time. Raises NotFound."""
        question = ById(id=id, at=None if at is None else str(at))
        state, _ = await self.ask(service, "get", question, returns)
        return state

    async def history(self, service: str, id: str) -> list[HistoryEntry]:
        """The aggregate's events. Raises NotFound."""
        log = self.logs.get(service)
        if log is None:
            raise absent(f"the history of {service}")
        return log.entries(id)

    async def watch(self, service: str, id: str, returns: type[T]) -> AsyncIterator[T]:
        """The present state; the next one never comes while one waits. Raises NotFound."""
        yield await self.get(service, id, returns, at=None)
        raise absent(
            f"waiting for what comes next of {id!r}, since time stands still meanwhile; "
            "call run_until_idle() or advance() first"
        )


async def others_turn() -> None:
    """Let the loop do what handlers gave it; `asyncio.sleep` may be a test's own by now."""
    done = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(done.set_result, None)
    await done


def _validated(data: Any) -> Any:
    try:
        return msgspec.json.decode(msgspec.json.encode(data), type=type(data))
    except msgspec.ValidationError as error:
        raise invalid(error, str(type_of(type(data))), root="$.data") from error
