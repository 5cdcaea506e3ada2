"""Judges what is stored by what was sent and acknowledged. Reads nothing by itself.

Every promise of the system is a kind of violation here: an acknowledged command that left no
effect is `lost`, one that left two is `doubled`, and so on. What is allowed is told by the domains'
own pure functions and by real time: what was acknowledged before another command was sent, stands
before it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf

import msgspec

from penstock.contracts.answers import Outcome
from penstock.contracts.envelope import Envelope
from penstock.contracts.errors import Problem
from penstock.infra.event_log import Recorded
from support.faults.domains import decided, states
from support.faults.ledger import Sent

Logs = Mapping[str, Sequence[Recorded]]
ENDS = {
    "jobs": {"completed", "failed", "cancelled"},
    "exports": {"completed", "failed"},
}
SHOWN = 200  # bytes of a state in a message
CONFLICT = "urn:penstock:error:conflict"
_encode = msgspec.json.Encoder().encode


class Violation(msgspec.Struct, frozen=True):
    """A promise that was not kept."""

    kind: str
    service: str
    aggregate: str
    what: str


class DeadLetter(msgspec.Struct, frozen=True):
    """A command that was given up, and why."""

    service: str
    aggregate: str
    id: str
    reason: Problem


class Effect(msgspec.Struct, frozen=True):
    """The events of one command: their positions in their aggregate, 0 for its first event."""

    entry: Sent
    positions: list[int]


class History:
    """One aggregate: its events, the states between them, and which command caused what."""

    def __init__(
        self, service: str, id: str, records: Sequence[Recorded], entries: Sequence[Sent]
    ) -> None:
        self.service = service
        self.id = id
        self.records = records
        self.states = states(service, records)
        places: defaultdict[str | None, list[int]] = defaultdict(list)
        for position, record in enumerate(records):
            places[record.event.causationid].append(position)
        self.effects = [Effect(entry, places.get(entry.id, [])) for entry in entries]

    def violation(self, kind: str, what: str) -> Violation:
        return Violation(kind, self.service, self.id, what)

    def sequence(self, position: int) -> int:
        """Where the event before `position` stands; 0 at the beginning."""
        return self.records[position - 1].sequence if position else 0

    def window(self, entry: Sent) -> range:
        """Before which events the command may have been decided, by what was known in real time."""
        low, high = 0, len(self.records)
        for other in self.effects:
            if not other.positions or other.entry is entry:
                continue
            if other.entry.known < entry.sent:
                low = max(low, other.positions[-1] + 1)
            if other.entry.sent > entry.known:
                high = min(high, other.positions[0])
        return range(low, high + 1)

    def decides(self, entry: Sent, position: int) -> list[str] | Problem:
        state = self.states[position]
        return decided(self.service, state, self.id, entry.command, entry.id)


def check(entries: Iterable[Sent], logs: Logs, dead: Sequence[DeadLetter]) -> list[Violation]:
    """Everything that is not as it was promised; empty when all is well."""
    found = [v for service, records in logs.items() for v in _stream(service, records)]
    letters = {(letter.service, letter.aggregate, letter.id): letter for letter in dead}
    known = set()
    for history in _histories(entries, logs):
        found += [*_versions(history), *_endings(history), *_order(history)]
        found += _unasked(history)
        for effect in history.effects:
            entry = effect.entry
            key = entry.service, entry.aggregate, entry.id
            known.add(key)
            found += [*_answers(history, entry), *_effect(history, effect, letters.get(key))]
    found += [
        Violation("buried", letter.service, letter.aggregate, f"{letter.id}: {letter.reason}")
        for key, letter in letters.items()
        if key not in known
    ]
    return found


def unfinished(logs: Logs, waiting: set[str]) -> list[Violation]:
    """Jobs and exports without an end, but for the jobs in `waiting`, once all had their time."""
    found = []
    for service, ends in ENDS.items():
        started = {
            r.event.subject for r in logs[service] if _name(r.event) in {"queued", "requested"}
        }
        over = {r.event.subject for r in logs[service] if _name(r.event) in ends}
        found += [
            Violation("unfinished", service, id, "it never came to an end")
            for id in sorted(started - over - waiting)
        ]
    return found


def _histories(entries: Iterable[Sent], logs: Logs) -> Iterator[History]:
    records: defaultdict[tuple[str, str], list[Recorded]] = defaultdict(list)
    for service, log in logs.items():
        for record in log:
            records[service, record.event.subject].append(record)
    sent: defaultdict[tuple[str, str], list[Sent]] = defaultdict(list)
    for entry in entries:
        sent[entry.service, entry.aggregate].append(entry)
    for service, id in {**records, **sent}:
        yield History(service, id, records.get((service, id), []), sent.get((service, id), []))


def _stream(service: str, records: Sequence[Recorded]) -> Iterator[Violation]:
    sequences = [record.sequence for record in records]
    if sequences != sorted(set(sequences)):
        yield Violation("disordered", service, "", "the sequences of the log do not increase")
    for id, times in Counter(record.event.id for record in records).items():
        if times > 1:
            yield Violation("doubled", service, "", f"{times} events have the id {id}")


def _versions(history: History) -> Iterator[Violation]:
    versions = [record.event.version for record in history.records]
    if versions != list(range(1, len(versions) + 1)):
        yield history.violation("gap", f"its versions are {versions}")


def _endings(history: History) -> Iterator[Violation]:
    ends = [r for r in history.records if _name(r.event) in ENDS.get(history.service, ())]
    if len(ends) > 1:
        yield history.violation("doubled", f"it ended {len(ends)} times")


def _unasked(history: History) -> Iterator[Violation]:
    """Events that neither a command nor another event of the aggregate caused."""
    causes = {effect.entry.id for effect in history.effects}
    causes |= {record.event.id for record in history.records}
    for record in history.records:
        if record.event.causationid not in causes:
            what = f"nobody asked for {record.event.id}, by {record.event.causationid}"
            yield history.violation("unasked", what)


def _order(history: History) -> Iterator[Violation]:
    latest, before = -inf, None
    effects = [effect for effect in history.effects if effect.positions]
    for effect in sorted(effects, key=lambda effect: effect.positions[0]):
        entry = effect.entry
        if before is not None and entry.known < latest:
            what = f"{entry.id} was acknowledged before {before.id} was sent and stands behind it"
            yield history.violation("reordered", what)
        if entry.sent > latest:
            latest, before = entry.sent, entry


def _answers(history: History, entry: Sent) -> Iterator[Violation]:
    """The same command has the same answer, however often it is sent."""
    first = entry.answers[0].outcome if entry.answers else None
    for other in entry.answers[1:]:
        if first is not None and _meaning(other.outcome) != _meaning(first):
            what = f"{entry.id} was answered {_shown(first)}, and then {_shown(other.outcome)}"
            yield history.violation("contradicted", what)
            return


def _effect(history: History, effect: Effect, letter: DeadLetter | None) -> Iterator[Violation]:
    if effect.positions:
        yield from _with_effect(history, effect)
        if letter is not None and letter.reason.type != CONFLICT:
            what = f"{effect.entry.id} has its effect and is a dead letter: {letter.reason.detail}"
            yield history.violation("buried", what)
    elif effect.entry.answers:
        yield from _without_effect(history, effect.entry, effect.entry.answers[0].outcome)
    elif effect.entry.posted:
        yield from _posted(history, effect.entry, letter)


def _with_effect(history: History, effect: Effect) -> Iterator[Violation]:
    entry, positions = effect.entry, effect.positions
    if positions != list(range(positions[0], positions[0] + len(positions))):
        yield history.violation("doubled", f"{entry.id} has events at {positions}")
        return
    types = [history.records[position].event.type for position in positions]
    meant = history.decides(entry, positions[0])
    if types != meant:
        kind = "doubled" if isinstance(meant, list) and len(types) > len(meant) else "misdecided"
        yield history.violation(kind, f"{entry.id} caused {types} where it should cause {meant}")
    for answer in entry.answers[:1]:
        yield from _told(history, entry, answer.outcome, positions[-1] + 1)


def _told(history: History, entry: Sent, outcome: Outcome, position: int) -> Iterator[Violation]:
    """The answer tells the state at a position, and where the event before it stands."""
    if outcome.problem is not None:
        what = f"{entry.id} was refused, {outcome.problem.detail!r}, and has its effect"
        yield history.violation("contradicted", what)
    elif outcome.sequence != history.sequence(position):
        what = f"{entry.id} was acknowledged at {outcome.sequence}"
        yield history.violation("misplaced", f"{what} and stands at {history.sequence(position)}")
    elif bytes(outcome.data) != _encode(history.states[position]):
        what = f"{entry.id} was answered another state than its events give"
        yield history.violation("differs", f"{what}: {bytes(outcome.data)[:SHOWN]!r}")


def _without_effect(history: History, entry: Sent, outcome: Outcome) -> Iterator[Violation]:
    """Nothing came of it: then it must have been refused, or so already, at that moment."""
    window = history.window(entry)
    if outcome.problem is not None:
        if not any(_same(history.decides(entry, at), outcome.problem) for at in window):
            what = f"{entry.id} was refused without reason: {outcome.problem.detail}"
            yield history.violation("misdecided", what)
        return
    at = sum(record.sequence <= outcome.sequence for record in history.records)
    if at not in window or history.decides(entry, at) != []:
        what = f"{entry.id} was acknowledged at {outcome.sequence} and has no event"
        yield history.violation("lost", what)
    else:
        yield from _told(history, entry, outcome, at)


def _posted(history: History, entry: Sent, letter: DeadLetter | None) -> Iterator[Violation]:
    meant = [history.decides(entry, at) for at in history.window(entry)]
    if letter is None and [] not in meant:
        what = f"{entry.id} was accepted and has neither an event nor a dead letter"
        yield history.violation("lost", what)
    if letter is None or letter.reason.type == CONFLICT:
        return
    if not any(_same(one, letter.reason) for one in meant):
        what = f"{entry.id} was given up without reason: {letter.reason.detail}"
        yield history.violation("misdecided", what)


def _same(meant: list[str] | Problem, problem: Problem) -> bool:
    return isinstance(meant, Problem) and (meant.type, meant.detail) == (
        problem.type,
        problem.detail,
    )


def _meaning(outcome: Outcome) -> tuple[int, bytes, str | None]:
    problem = outcome.problem
    return outcome.sequence, bytes(outcome.data), problem.detail if problem else None


def _shown(outcome: Outcome) -> str:
    if outcome.problem:
        return f"with {outcome.problem.detail!r}"
    return f"at {outcome.sequence} with {bytes(outcome.data)[:SHOWN]!r}"


def _name(event: Envelope) -> str:
    return event.type.split(".")[2]
