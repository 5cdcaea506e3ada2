"""What the clients of a fault test sent, and what they were told. Never judges any of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from math import inf

import msgspec

from penstock.contracts.answers import Outcome


class Answer(msgspec.Struct, frozen=True):
    """An outcome, a refusal too, and when it came."""

    at: float
    outcome: Outcome


class Sent(msgspec.Struct, eq=False, kw_only=True):
    """One command, sent under one id once or many times. Times are monotonic, in seconds."""

    service: str
    aggregate: str
    command: msgspec.Struct
    id: str
    sent: float = inf  # first
    accepted: float = inf  # stored without an outcome asked for
    answers: list[Answer] = msgspec.field(default_factory=list)
    tries: int = 0

    @property
    def known(self) -> float:
        """Since when its effect is known to be there; infinite if nobody was told."""
        return min((answer.at for answer in self.answers), default=inf)

    @property
    def posted(self) -> bool:
        return self.accepted < inf


class Ledger:
    """Everything sent, in order of its first sending."""

    def __init__(self) -> None:
        self.entries: list[Sent] = []

    def begin(self, service: str, aggregate: str, command: msgspec.Struct, id: str) -> Sent:
        entry = Sent(service=service, aggregate=aggregate, command=command, id=id)
        entry.sent = time.monotonic()
        self.entries.append(entry)
        return entry

    def answered(self, entry: Sent, outcome: Outcome) -> None:
        entry.answers.append(Answer(time.monotonic(), outcome))

    def accepted(self, entry: Sent) -> None:
        entry.accepted = min(entry.accepted, time.monotonic())

    def __iter__(self) -> Iterator[Sent]:
        return iter(self.entries)

    def summary(self) -> str:
        answered = [entry for entry in self.entries if entry.answers]
        return (
            f"{len(self.entries)} commands: {len(answered)} acknowledged"
            f" ({sum(entry.answers[0].outcome.problem is not None for entry in answered)} refused),"
            f" {sum(entry.posted for entry in self.entries)} posted,"
            f" {sum(entry.tries > len(entry.answers) for entry in answered)} resent,"
            f" {sum(len(entry.answers) - 1 for entry in answered)} duplicates answered"
        )
