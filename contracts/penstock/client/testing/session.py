"""A Session that the pure domain of jobs answers in memory. Never leaves the process, never waits.

What it cannot answer raises NotInMemory and says so.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any, TypeVar, get_args

import msgspec
from msgspec.structs import replace

from penstock.client.session import Session, present_cause
from penstock.contracts.answers import Accepted, Answer, HistoryEntry, HistoryOf, Outcome, Question
from penstock.contracts.envelope import Envelope, wrap
from penstock.contracts.errors import NotFound, PenstockError, from_problem
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import EnqueueJob, Rules
from penstock.infra.deciding.decider import Context
from penstock.infra.sender import Cause
from penstock.jobs.job import Command, decide, evolve

T = TypeVar("T")
COMMANDS = get_args(Command)


class NotInMemory(NotImplementedError):  # noqa: N818 - named for what it says
    """The real system does this and the one in memory does not."""


class MemorySession(Session):
    """`clock` tells the time; `check` refuses what no handler could take; `changed` hears of jobs
    whose events were stored.
    """

    def __init__(
        self,
        clock: Callable[[], datetime],
        check: Callable[[EnqueueJob], None],
        changed: Callable[[str], None],
    ) -> None:
        self.actor = None
        self.timeout = 10.0
        self.states: dict[str, JobState] = {}
        self.events: dict[str, list[tuple[int, Envelope]]] = {}
        self._clock = clock
        self._check = check
        self._changed = changed
        self._sequence = 0
        self._answers: dict[tuple[str, ...], Outcome] = {}

    def sequence(self, id: str) -> int:
        """That of the job's last event."""
        return self.events[id][-1][0]

    async def command(
        self,
        command: msgspec.Struct,
        *,
        id: str,
        command_id: str | None = None,
        timeout: float | None = None,
    ) -> Outcome:
        """Decide now; the same command again is answered as before. Raises the refusal."""
        if not isinstance(command, COMMANDS):
            raise _absent(type(command).__name__)
        key = command_id or uuid.uuid4().hex
        sent = (id, key, type(command).__name__, msgspec.json.encode(command).decode())
        known = self._answers.get((id, key)) or self._answers.get(sent)
        if known is None:
            known = self._answers[sent] = self._decided(command, id, key)
        if known.problem is not None:
            raise from_problem(known.problem)
        return known

    async def post(
        self, command: msgspec.Struct, *, id: str, command_id: str | None = None
    ) -> Accepted:
        """In memory a command needs its outcome; not built."""
        raise _absent(f"posting {type(command).__name__}")

    def _decided(self, data: Any, id: str, key: str) -> Outcome:
        cause = self._cause(key)
        envelope = wrap(
            self._validated(data),
            id=key,
            subject=id,
            time=self._clock(),
            correlationid=cause.correlationid,
            cause=cause.event,
            actor=cause.actor,
        )
        try:
            if isinstance(data, EnqueueJob):
                if data.rules != Rules(max_crashes=data.rules.max_crashes):
                    raise _absent("timeouts, limits and other rules of a job")
                self._check(data)
            context = Context(self._clock(), envelope)
            events = decide(self.states.get(id), data, context)
        except PenstockError as refusal:
            return Outcome(id=key, problem=refusal.problem())
        for event in events:
            self.append(id, event, envelope)
        state = msgspec.Raw(msgspec.json.encode(self.states[id]))
        outcome = Outcome(id=key, sequence=self.sequence(id), data=state)
        if events:
            self._answers[id, key] = outcome
        return outcome

    def _validated(self, data: Any) -> Any:
        return msgspec.json.decode(msgspec.json.encode(data), type=type(data))

    def _cause(self, command_id: str) -> Cause:
        cause = present_cause() or Cause(correlationid=command_id)
        return cause if cause.actor else replace(cause, actor=self.actor)

    def append(self, id: str, event: Any, cause: Envelope) -> Envelope:
        """Store one event of a job and fold it."""
        self._sequence += 1
        stored = self.events.setdefault(id, [])
        envelope = wrap(
            event,
            id=f"{id}:{self._sequence}",
            subject=id,
            time=self._clock(),
            correlationid=cause.correlationid,
            cause=cause,
            actor=cause.actor,
            version=len(stored) + 1,
        )
        stored.append((self._sequence, envelope))
        state = evolve(self.states.get(id), event, envelope)
        self.states[id] = state
        self._changed(id)
        return envelope

    async def get(self, service: str, id: str, returns: type[T], *, at: str | int | None) -> T:
        """The job now. Raises NotFound."""
        if returns is not JobState or at is not None:
            raise _absent(f"reading {service} so")
        state: Any = self._found(id)
        return msgspec.json.decode(msgspec.json.encode(state), type=returns)

    async def history(self, service: str, id: str) -> list[HistoryEntry]:
        """The job's events. Raises NotFound."""
        entries, _ = await self.ask(service, "history", HistoryOf(id=id), list[HistoryEntry])
        return entries

    async def ask(
        self, service: str, name: str, question: Question, returns: type[T]
    ) -> tuple[T, Answer]:
        """Only histories of jobs."""
        if service != "jobs" or not isinstance(question, HistoryOf):
            raise _absent(f"the question {name!r} to {service}")
        self._found(question.id)
        entries: Any = [_entry(*one) for one in self.events[question.id]]
        return entries, Answer(sequence=self._sequence)

    async def watch(self, service: str, id: str, returns: type[T]) -> AsyncIterator[T]:
        """The present state if the job is over; the virtual clock does not move by itself."""
        state = await self.get(service, id, returns, at=None)
        if not self.states[id].is_over:
            raise RuntimeError(
                f"The job {id!r} is not over, and time stands still while one waits for it: "
                "call run_until_idle() or advance() first."
            )
        yield state

    def _found(self, id: str) -> JobState:
        if id not in self.states:
            raise NotFound(f"There is no job {id!r}.", id=id)
        return self.states[id]


def _entry(sequence: int, event: Envelope) -> HistoryEntry:
    return HistoryEntry(
        sequence=sequence,
        service="jobs",
        subject=event.subject,
        version=event.version,
        id=event.id,
        type=event.type,
        time=event.time,
        data=msgspec.json.decode(event.data),
        correlationid=event.correlationid,
        causationid=event.causationid,
        actor=event.actor,
    )


def _absent(what: str) -> NotInMemory:
    return NotInMemory(
        f"penstock.client.testing does not do this in memory: {what}. Test it on a real system."
    )
