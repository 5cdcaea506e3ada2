"""Handles commands: load, decide, append, answer. The same for all six services.

Decides nothing itself; a domain's `decide` and `evolve` are pure and get time and ids as data.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import msgspec

from penstock.contracts.answers import Outcome
from penstock.contracts.envelope import Envelope, unwrap, wrap
from penstock.contracts.errors import Conflict
from penstock.infra.event_log import EventLog, Recorded
from penstock.infra.keyed_locks import KeyedLocks

S = TypeVar("S")
TRIES = 20
CACHED = 20_000

_encode = msgspec.json.Encoder().encode


class Context(msgspec.Struct, frozen=True):
    """What a decision may know beside state and command: the time, and the command's envelope.

    `facts` is what the service looked up for this command beyond its aggregate, if it does that.
    """

    now: datetime
    command: Envelope
    facts: Any = None


Decide = Callable[[S | None, msgspec.Struct, Context], Sequence[msgspec.Struct]]
Evolve = Callable[[S | None, msgspec.Struct, Envelope], S]


class Aggregate(msgspec.Struct, Generic[S]):
    """An aggregate folded from its events; `commands` are the ids of those that shaped it.

    `last` is its last event, at `sequence`.
    """

    id: str
    state: S | None = None
    version: int = 0
    sequence: int = 0
    commands: set[str] = set()
    last: Envelope | None = None


Effect = Callable[[Aggregate[S], Envelope], Awaitable[None]]
Load = Callable[[str], Awaitable[Aggregate[S]]]
LookUp = Callable[[msgspec.Struct, Load[S]], Awaitable[Any]]


class Decider(Generic[S]):
    """The write side of one service.

    `effect` runs after the events are stored and before the command is acknowledged, also when a
    command is seen again: it must be idempotent, and finishes what a crash left undone.
    `look_up` gets the `facts` that a command needs from beyond its aggregate, before it is decided;
    it may run several times for one command.
    `cached` is how many aggregates are kept in memory: 0 where others than this decider append to
    them, so that every decision and every answer is about the present.
    """

    def __init__(
        self,
        log: EventLog,
        decide: Decide[S],
        evolve: Evolve[S],
        *,
        effect: Effect[S] | None = None,
        look_up: LookUp[S] | None = None,
        cached: int = CACHED,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._log = log
        self._decide = decide
        self._evolve = evolve
        self._effect = effect
        self._look_up = look_up
        self._cached = cached
        self._clock = clock
        self._locks = KeyedLocks()
        self._cache: OrderedDict[str, Aggregate[S]] = OrderedDict()

    async def handle(self, command: Envelope) -> Outcome:
        """Carry out one command; a second time with the same id answers as the first.

        Raises InvalidMessage, NotFound or Refused from the domain, and Conflict if others keep
        changing the aggregate.
        """
        data = unwrap(command)
        async with self._locks.of(command.subject):
            for _ in range(TRIES):
                aggregate = await self._load(command.subject)
                if command.id in aggregate.commands:
                    return await self._again(command)
                try:
                    return await self._carry_out(aggregate, data, command)
                except Conflict:
                    self._cache.pop(command.subject, None)
        raise Conflict(f"{command.subject!r} changes too fast; send the command again.")

    async def load(self, id: str) -> Aggregate[S]:
        """The aggregate as its events tell it now, past any cache."""
        loaded = await self._log.load(id)
        return self._fold(Aggregate(id), loaded.events)

    async def _carry_out(
        self, aggregate: Aggregate[S], data: msgspec.Struct, command: Envelope
    ) -> Outcome:
        facts = await self._look_up(data, self.load) if self._look_up else None
        decided = self._decide(aggregate.state, data, Context(self._clock(), command, facts))
        if decided:
            events = self._envelopes(aggregate, decided, command)
            appended = await self._log.append(
                events, expected=aggregate.sequence, command_id=command.id
            )
            if appended.again:
                self._cache.pop(aggregate.id, None)
                return await self._again(command)
            aggregate = self._fold(
                aggregate, [Recorded(appended.sequence, event) for event in events]
            )
            self._remember(aggregate)
        if self._effect:
            await self._effect(aggregate, command)
        return _outcome(aggregate, command)

    async def _again(self, command: Envelope) -> Outcome:
        loaded = await self._log.load(command.subject)
        causes = [r.event.causationid for r in loaded.events]
        last = len(causes) - causes[::-1].index(command.id)
        then = self._fold(Aggregate(command.subject), loaded.events[:last])
        now = self._fold(then, loaded.events[last:])
        self._remember(now)
        if self._effect:
            await self._effect(now, command)
        return _outcome(then, command)

    async def _load(self, id: str) -> Aggregate[S]:
        cached = self._cache.get(id)
        if cached is not None:
            self._cache.move_to_end(id)
            return cached
        aggregate = await self.load(id)
        self._remember(aggregate)
        return aggregate

    def _remember(self, aggregate: Aggregate[S]) -> None:
        self._cache[aggregate.id] = aggregate
        self._cache.move_to_end(aggregate.id)
        if len(self._cache) > self._cached:
            self._cache.popitem(last=False)

    def _fold(self, aggregate: Aggregate[S], records: Sequence[Recorded]) -> Aggregate[S]:
        state, last = aggregate.state, aggregate.last
        version, sequence = aggregate.version, aggregate.sequence
        for record in records:
            last = record.event
            state = self._evolve(state, unwrap(last), last)
            version, sequence = last.version, record.sequence
        # The set is handed on, not copied: a copy a command makes long aggregates quadratic.
        aggregate.commands.update(r.event.causationid for r in records if r.event.causationid)
        return Aggregate(aggregate.id, state, version, sequence, aggregate.commands, last)

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


def _outcome(aggregate: Aggregate[S], command: Envelope) -> Outcome:
    return Outcome(
        id=command.id, sequence=aggregate.sequence, data=msgspec.Raw(_encode(aggregate.state))
    )
