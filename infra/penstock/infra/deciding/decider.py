"""Handles commands: load, decide, append, answer. The same for all six services.

Decides nothing itself; a domain's `decide` and `evolve` are pure and get time and ids as data. A
command is decided once: its events, or where there are none its answer, are stored on the condition
that the aggregate is still as it was decided upon, and tell when the command comes again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Generic, TypeVar

import msgspec

from penstock.contracts.answers import Outcome
from penstock.contracts.envelope import Envelope, unwrap, wrap
from penstock.contracts.errors import (
    Archived,
    Conflict,
    Erased,
    PenstockError,
    Unavailable,
    from_problem,
)
from penstock.contracts.lifecycle import Erased as ErasedEvent
from penstock.infra.deciding.aggregate import Aggregate, Evolve
from penstock.infra.deciding.aggregates import Aggregates
from penstock.infra.deciding.decisions import Decisions, Head
from penstock.infra.deciding.snapshots import Snapshots
from penstock.infra.event_log import EventLog, Recorded
from penstock.infra.keyed_locks import KeyedLocks
from penstock.infra.views.recent import Recent

__all__ = ["Aggregate", "Context", "Decide", "Decider", "Effect", "Evolve", "Load", "LookUp"]

S = TypeVar("S")
TRIES = 30
# Answers to the last commands of the frame and of many that are kept, and for how many seconds.
ANSWERED, KEPT = 100, 60.0
LONGEST_PAUSE = 0.05  # seconds between two of them

_encode = msgspec.json.Encoder().encode


class Context(msgspec.Struct, frozen=True):
    """What a decision may know beside state and command: the time, and the command's envelope.

    `facts` is what the service looked up for this command beyond its aggregate, if it does that.
    """

    now: datetime
    command: Envelope
    facts: Any = None


Decide = Callable[[S | None, msgspec.Struct, Context], Sequence[msgspec.Struct]]
Effect = Callable[[Aggregate[S], Envelope], Awaitable[int | None]]
Load = Callable[[str], Awaitable[Aggregate[S]]]
LookUp = Callable[[msgspec.Struct, Load[S], Envelope], Awaitable[Any]]
CarryOut = Callable[[Envelope, Any], Awaitable[Outcome]]


class Decider(Generic[S]):
    """The write side of one service.

    `effect` runs after the events are stored and before the command is acknowledged, also when a
    command is seen again: it must be idempotent, and finishes what a crash left undone. It may give
    the sequence of the last event of others that it caused, so that the outcome reflects it too.
    `look_up` gets the `facts` that a command needs from beyond its aggregate, before it is decided:
    from its data and its envelope. It may run several times for one command. `own` carries out the
    frame's own commands, by type.
    """

    def __init__(
        self,
        log: EventLog,
        decide: Decide[S],
        evolve: Evolve[S],
        decisions: Decisions,
        *,
        snapshots: Snapshots[S] | None = None,
        effect: Effect[S] | None = None,
        look_up: LookUp[S] | None = None,
        own: Mapping[type[msgspec.Struct], CarryOut] = {},
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._log = log
        self._decide = decide
        self._decisions = decisions
        self._aggregates = Aggregates(log, evolve, snapshots=snapshots)
        self._effect = effect
        self._look_up = look_up
        self._own = own
        self._answers: Recent[tuple[object, ...], tuple[float, Outcome]] = Recent(ANSWERED)
        self._clock = clock
        self._locks = KeyedLocks()

    async def handle(self, command: Envelope, *, anew: bool = False) -> Outcome:
        """Carry out a command once and answer it; a command with the same id answers as the first.

        With `anew` an earlier refusal does not count: its cause may be gone. Raises InvalidMessage,
        NotFound or Refused from the domain, Erased or Archived, and Conflict if others keep
        changing the aggregate.
        """
        data = unwrap(command)
        async with self._locks.of(command.subject):
            for tried in range(TRIES):
                try:
                    return await self._try(data, command, anew)
                except Conflict:
                    self._aggregates.forget(command.subject)
                await asyncio.sleep(min(0.001 * tried**2, LONGEST_PAUSE))
        raise Conflict(f"{command.subject!r} changes too fast; send the command again.")

    async def load(self, id: str) -> Aggregate[S]:
        """The aggregate as its events tell it now, past any memory."""
        return await self._aggregates.load(id)

    async def close(self) -> None:
        """Finish what is being written beside the commands."""
        await self._aggregates.close()

    async def _try(self, data: msgspec.Struct, command: Envelope, anew: bool) -> Outcome:
        if own := self._own.get(type(data)):
            return await self._carried_out(own, data, command)
        head = await self._decisions.head(command)
        aggregate = await self._aggregates.present(command.subject, head.last)
        if isinstance(aggregate.tombstone, ErasedEvent):
            raise erased(aggregate)
        if aggregate.knows(command.id):
            return await self._again(command, aggregate)
        if head.outcome is not None and not (anew and head.outcome.problem):
            return await self._answered(head, aggregate, command)
        return await self._carry_out(aggregate, data, command)

    async def _carried_out(self, own: CarryOut, data: msgspec.Struct, command: Envelope) -> Outcome:
        # Copies of what takes long come while it is under way, from those who wait: to carry out
        # each would keep the service from all else, and make ever more of them.
        key = (command.id, command.subject, command.type, hash(bytes(command.data)))
        answered, outcome = self._answers.get(key) or (0.0, None)
        if outcome is None or monotonic() - answered > KEPT:
            outcome = await own(command, data)
            self._answers.put({key: (monotonic(), outcome)})
        return outcome

    async def _answered(self, head: Head, aggregate: Aggregate[S], command: Envelope) -> Outcome:
        assert head.outcome is not None
        if head.outcome.problem is not None:
            raise from_problem(head.outcome.problem)
        await self._act(aggregate, command)
        return head.outcome

    async def _carry_out(
        self, aggregate: Aggregate[S], data: msgspec.Struct, command: Envelope
    ) -> Outcome:
        try:
            look_up = self._look_up
            facts = await look_up(data, self.load, command) if look_up else None
            decided = self._decide(aggregate.state, data, Context(self._clock(), command, facts))
        except (Conflict, Unavailable):
            raise  # says nothing of the command
        except PenstockError as refusal:
            outcome = Outcome(id=command.id, problem=refusal.problem())
            await self._decisions.record(command, outcome, expected=aggregate.sequence)
            raise
        if decided:
            return await self._store(aggregate, decided, command)
        outcome = _outcome(aggregate, command, await self._act(aggregate, command))
        await self._decisions.record(command, outcome, expected=aggregate.sequence)
        return outcome

    async def _store(
        self, aggregate: Aggregate[S], decided: Sequence[msgspec.Struct], command: Envelope
    ) -> Outcome:
        events = self._envelopes(aggregate, decided, command)
        appended = await self._log.append(
            events, expected=aggregate.sequence, command_id=command.id
        )
        if appended.again:
            self._aggregates.forget(command.subject)
            now = await self._aggregates.load(command.subject)
            _reached(now.sequence, appended.sequence, command)
            return await self._again(command, now)
        records = [Recorded(appended.sequence, event) for event in events]
        aggregate = self._aggregates.fold(aggregate, records)
        self._aggregates.remember(aggregate)
        return _outcome(aggregate, command, await self._act(aggregate, command))

    async def _again(self, command: Envelope, now: Aggregate[S]) -> Outcome:
        """The answer to a command that shaped the aggregate before."""
        loaded = await self._aggregates.whole(command.subject)
        _reached(loaded.sequence, now.sequence, command)
        events = loaded.events
        causes = [record.event.causationid for record in events]
        if command.id not in causes:
            raise archived(now)
        last = len(causes) - causes[::-1].index(command.id)
        then = self._aggregates.fold(Aggregate(command.subject), events[:last])
        return _outcome(then, command, await self._act(now, command))

    async def _act(self, aggregate: Aggregate[S], command: Envelope) -> int:
        """Have done what follows; the sequence of the last event of others, 0 for none."""
        return (await self._effect(aggregate, command) or 0) if self._effect else 0

    def _envelopes(
        self, aggregate: Aggregate[S], decided: Sequence[msgspec.Struct], command: Envelope
    ) -> list[Envelope]:
        now = self._clock()
        return [
            wrap(
                data,
                id=f"{command.id}:{position}",
                subject=aggregate.id,
                time=now,
                correlationid=command.correlationid,
                cause=command,
                actor=command.actor,
                version=aggregate.version + position,
                traceparent=command.traceparent,
            )
            for position, data in enumerate(decided, 1)
        ]


def _reached(sequence: int, known: int, command: Envelope) -> None:
    """Raise Unavailable if what was read ends before what is known to be stored."""
    if sequence < known:
        raise Unavailable(
            f"What is stored of {command.subject!r} cannot be read yet: a replica is behind."
        )


def erased(aggregate: Aggregate[S]) -> Erased:
    """The error that says so."""
    assert aggregate.last is not None
    return Erased(
        f"{aggregate.id!r} was erased at {aggregate.last.time:%Y-%m-%d %H:%M} UTC; use another id.",
        id=aggregate.id,
    )


def archived(aggregate: Aggregate[S]) -> Archived:
    """The error that says so."""
    return Archived(
        f"{aggregate.id!r} is over and in the archive; its history tells what became of it.",
        id=aggregate.id,
    )


def _outcome(aggregate: Aggregate[S], command: Envelope, caused: int) -> Outcome:
    return Outcome(
        id=command.id,
        sequence=max(aggregate.sequence, caused),
        data=msgspec.Raw(_encode(aggregate.state)),
    )
