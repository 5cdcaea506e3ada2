"""The event log as it is meant: a list of events, and what an append to it may answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from penstock.contracts.envelope import Envelope
from penstock.infra.event_log import Recorded


class Attempt(msgspec.Struct, frozen=True):
    """One call of `append`."""

    events: tuple[Envelope, ...]
    expected: int

    @property
    def id(self) -> str:
        return self.events[0].subject

    @property
    def command_id(self) -> str | None:
        return self.events[0].causationid


class Stored(msgspec.Struct, frozen=True):
    """It was let in; where its last event stands is for the log to say."""


class StoredBefore(msgspec.Struct, frozen=True):
    sequence: int


class Refused(msgspec.Struct, frozen=True):
    actual: int


Verdict = Stored | StoredBefore | Refused


class LogModel:
    """Appends are checked one after the other, by looking at the whole list each time."""

    def __init__(self) -> None:
        self.records: list[Recorded] = []

    def of(self, id: str, after: int = 0) -> list[Recorded]:
        return [r for r in self.records if r.event.subject == id and r.sequence > after]

    def head(self, id: str) -> int:
        return max((r.sequence for r in self.of(id)), default=0)

    def last(self) -> int:
        return max((r.sequence for r in self.records), default=0)

    def verdict(self, attempt: Attempt) -> Verdict:
        """What an append answers if it comes now."""
        if self.head(attempt.id) == attempt.expected:
            return Stored()
        ids = {event.id for event in attempt.events}
        for record in reversed(self.of(attempt.id, attempt.expected)):
            if record.event.id in ids or record.event.causationid == attempt.command_id:
                return StoredBefore(record.sequence)
        return Refused(self.head(attempt.id))

    def store(self, events: Sequence[Envelope], last: int) -> None:
        """Add events of which the last stands at `last`."""
        first = last - len(events) + 1
        assert first > self.last(), "a new event stands behind all others"
        self.records += [Recorded(first + n, event) for n, event in enumerate(events)]

    def erase(self, id: str, before: int) -> None:
        """Remove what an aggregate had before a sequence."""
        self.records = [r for r in self.records if r.event.subject != id or r.sequence >= before]

    def together(self, attempts: Iterable[tuple[Attempt, Verdict, int]]) -> None:
        """Check and apply what appends that went on at the same time answered.

        There must be an order of them that explains every answer: those stored in the order of
        their sequences, each other one before, between or behind them.
        """
        answered = list(attempts)
        stored = sorted((a for a in answered if isinstance(a[1], Stored)), key=lambda a: a[2])
        others = [(attempt, verdict) for attempt, verdict, _ in answered if verdict != Stored()]
        moments = [self._moment(others)]
        for attempt, _, last in stored:
            assert self.verdict(attempt) == Stored(), f"{attempt} was let in"
            self.store(attempt.events, last)
            moments.append(self._moment(others))
        for (attempt, verdict), possible in zip(others, zip(*moments, strict=True), strict=True):
            assert explained(verdict, possible), f"{attempt} answered {verdict}: {possible}"

    def _moment(self, attempts: list[tuple[Attempt, Verdict]]) -> list[tuple[Verdict, int]]:
        return [(self.verdict(attempt), self.head(attempt.id)) for attempt, _ in attempts]


def explained(verdict: Verdict, possible: Sequence[tuple[Verdict, int]]) -> bool:
    """Whether one moment gives this verdict; where a refused one should have gone is looked up
    at a later moment than that of the refusal.
    """
    verdicts = [at_that_moment for at_that_moment, _ in possible]
    if not isinstance(verdict, Refused):
        return verdict in verdicts
    first = next((n for n, at in enumerate(verdicts) if isinstance(at, Refused)), len(verdicts))
    return verdict.actual in [head for _, head in possible[first:]]
