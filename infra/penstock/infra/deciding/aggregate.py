"""An aggregate folded from its events, and the fold itself. Never any I/O.

The frame's own events are folded here, for all six services alike: after a tombstone there is no
state.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

import msgspec

from penstock.contracts.envelope import Envelope, unwrap
from penstock.contracts.lifecycle import Archived, Erased
from penstock.infra.event_log import Recorded

S = TypeVar("S")
REMEMBERED = 500_000  # commands of one aggregate, the newest
KEY = 8  # bytes

Evolve = Callable[[S | None, msgspec.Struct, Envelope], S]
Fold = Callable[[S | None, msgspec.Struct, Envelope], S | None]
Tombstone = Erased | Archived


def fold_with(evolve: Evolve[S]) -> Fold[S]:
    """`evolve`, and None after a tombstone."""

    def fold(state: S | None, data: msgspec.Struct, event: Envelope) -> S | None:
        return None if isinstance(data, Tombstone) else evolve(state, data, event)

    return fold


def command_key(id: str) -> int:
    """A command's id in eight bytes: what is kept of each, for as long as its aggregate lives."""
    return int.from_bytes(hashlib.blake2b(id.encode(), digest_size=KEY).digest(), "big")


class Mark(msgspec.Struct):
    """Up to which version there is a snapshot, and its own sequence; 0 for none."""

    version: int = 0
    sequence: int = 0


class Aggregate(msgspec.Struct, Generic[S]):
    """`commands` are the keys of those that shaped it, oldest first.

    `last` is its last event, at `sequence`. `tombstone` is set where its events ended with one.
    """

    id: str
    state: S | None = None
    version: int = 0
    sequence: int = 0
    commands: dict[int, None] = {}
    last: Envelope | None = None
    tombstone: Tombstone | None = None
    snapshot: Mark = msgspec.field(default_factory=Mark)

    def knows(self, command_id: str) -> bool:
        """Whether that command shaped it, as surely as eight bytes tell."""
        return command_key(command_id) in self.commands


class Folder(Generic[S]):
    """Folds events onto aggregates of one service."""

    def __init__(self, evolve: Evolve[S]) -> None:
        self._fold = fold_with(evolve)

    def fold(self, aggregate: Aggregate[S], records: Sequence[Recorded]) -> Aggregate[S]:
        """`aggregate` after `records`; the one given is not to be used any more."""
        state, tombstone = aggregate.state, aggregate.tombstone
        version, sequence, last = aggregate.version, aggregate.sequence, aggregate.last
        # Handed on, not copied: a copy a command makes long aggregates quadratic.
        commands = aggregate.commands
        for record in records:
            last, sequence = record.event, record.sequence
            data = unwrap(last)
            state = self._fold(state, data, last)
            tombstone = data if isinstance(data, Tombstone) else None
            version = last.version
            if last.causationid:
                commands[command_key(last.causationid)] = None
            if isinstance(data, Archived):
                commands.update(dict.fromkeys(unpacked(data.commands)))
        _forget_oldest(commands)
        return Aggregate(
            aggregate.id,
            state,
            version,
            sequence,
            commands,
            last,
            tombstone,
            aggregate.snapshot,
        )


def packed(commands: Iterable[int]) -> bytes:
    """Command keys as bytes."""
    return array("Q", commands).tobytes()


def unpacked(commands: bytes) -> array[int]:
    """What `packed` packed."""
    keys = array("Q")
    keys.frombytes(commands)
    return keys


def _forget_oldest(commands: dict[int, None]) -> None:
    while len(commands) > REMEMBERED:
        del commands[next(iter(commands))]
