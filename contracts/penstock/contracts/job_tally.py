"""What jobs that are gone from the log count for: event and state, version 1. Never any logic.

A tally is the aggregate `tally:<command>`, of those that one command archived or erased. No command
changes it. It names queues and names of jobs, but no job.
"""

from __future__ import annotations

import hashlib

import msgspec

from penstock.contracts.envelope import Time, event
from penstock.contracts.jobs import SERVICE, Message
from penstock.contracts.subjects import MAX_ID

PREFIX = "tally:"


class Counted(msgspec.Struct, frozen=True, array_like=True):
    """`count` more of `what` in the `size` seconds from the Unix time `at` on.

    `what` is a letter of a state (p, w, r, c, f, x), something that came (`+enqueued`,
    `+completed`, `+failed`), or a duration (`wait`, `run`) with the `bucket` of those as long.
    """

    queue: str
    name: str
    what: str
    bucket: int
    size: int
    at: int
    count: int


class Stepped(msgspec.Struct, frozen=True, array_like=True):
    """The stream sequences of events that took jobs from one state to another: two letters, or the
    one of the first state.
    """

    queue: str
    name: str
    letters: str
    sequences: tuple[int, ...]


@event(SERVICE, "tallied")
class JobsTallied(Message, frozen=True, kw_only=True):
    """Jobs left the log, and this is what they count for from now on, or a part of it.

    Only the first part says how many `jobs` there are. Counts are as fine as those of the same age
    that are kept, and steps are of the last two days; `clock` has the last of their sequences in
    each second.
    """

    jobs: int
    counts: tuple[Counted, ...] = ()
    steps: tuple[Stepped, ...] = ()
    clock: dict[int, int] = msgspec.field(default_factory=dict)


class TallyState(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="tally"):
    """A tally: of how many `jobs`, and when it was made."""

    id: str
    jobs: int
    made: Time


def tally_id(command: str) -> str:
    """The aggregate of what a command archived or erased; a long id stands there as its hash."""
    id = f"{PREFIX}{command}"
    return id if len(id) <= MAX_ID else PREFIX + hashlib.sha256(command.encode()).hexdigest()
