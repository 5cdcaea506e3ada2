"""What a job's changes of state add to the counts: how many are where, come and go, and how long
they took. Pure.

Whatever is counted follows from the events alone, in any batches, so that a view that is made anew
counts the same.
"""

from __future__ import annotations

from datetime import datetime
from math import log2

import msgspec

from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import JobStarted

LETTERS = {
    "pending": "p",
    "retrying": "w",
    "processing": "r",
    "completed": "c",
    "failed": "f",
    "cancelled": "x",
}
GONE = "-"  # erased before its end: in no state any more
STATES = {letter: state for state, letter in LETTERS.items()}
ENQUEUED, COMPLETED, FAILED, WAIT, RUN = "+enqueued", "+completed", "+failed", "wait", "run"
OPEN = ("p", "w", "r")
FLOWS = {"c": COMPLETED, "f": FAILED}
STEPS = 4  # buckets in which a duration doubles: each is 19 percent wide
SIZES = (1, 60, 3600, 86_400)  # seconds that a count is over
KEPT = {1: 2 * 86_400, 60: 31 * 86_400, 3600: 366 * 86_400}  # seconds; the longest for ever

# By the second that it is of, queue, name, what is counted, and for durations the bucket.
Counts = dict[tuple[int, str, str, str, int], int]
# By queue, name, and the letters of the state before, if there was one, and after: sequences.
Steps = dict[tuple[str, str, str], list[int]]
# By queue, priority and letter.
Depths = dict[tuple[str, int, str], int]


class Move(msgspec.Struct, frozen=True, gc=False):
    """A job came into a state `at` a time, and may be run from `due` on; in milliseconds."""

    letter: str
    at: int
    due: int


def next_move(before: Move | None, job: JobState, data: msgspec.Struct, at: int) -> Move | None:
    """Where an event took a job, which is as `job` since; None if it stayed where it was."""
    letter = LETTERS[job.state]
    if before and before.letter == letter and type(data) is not JobStarted:
        return None
    return Move(letter, at, max(at, milliseconds(job.run_at)) if job.run_at else at)


class Tally:
    """Counts moves: one look into a table for most of them, as there are very many."""

    def __init__(self) -> None:
        self._changes: dict[tuple[int, str, str, int, str, str], list[int]] = {}
        self._durations: Counts = {}

    def add(
        self,
        queue: str,
        name: str,
        priority: int,
        before: Move | None,
        after: Move,
        sequence: int = 0,
    ) -> None:
        """Count one move more, from the state of a job `before`, None for a new job.

        `sequence` is that of the event, which is needed for `steps` alone.
        """
        letter, at = after.letter, after.at
        was = before.letter if before else ""
        second = at // 1000
        key = (second, queue, name, priority, was, letter)
        if (changes := self._changes.get(key)) is None:
            self._changes[key] = [sequence]
        else:
            changes.append(sequence)
        if before is None:
            return
        if letter == "r" and was != "r":
            took = (second - second % 60, queue, name, WAIT, bucket(at - before.due))
        elif was == "r" and letter in "cfw":
            took = (second - second % 60, queue, name, RUN, bucket(at - before.at))
        else:
            return
        self._durations[took] = self._durations.get(took, 0) + 1

    def counts(self) -> Counts:
        """What was counted by the second, and durations by the minute."""
        found = dict(self._durations)
        for (second, queue, name, _, was, letter), moved in self._changes.items():
            for what, change in _counted(was, letter):
                key = (second, queue, name, what, 0)
                found[key] = found.get(key, 0) + change * len(moved)
        return found

    def depths(self) -> Depths:
        """How many more, or fewer, are in the states of which something is to come."""
        found: Depths = {}
        for (_, queue, _, priority, was, letter), moved in self._changes.items():
            for what, change in ((was, -len(moved)), (letter, len(moved))):
                if what in OPEN:
                    key = (queue, priority, what)
                    found[key] = found.get(key, 0) + change
        return found

    def steps(self) -> Steps:
        """Which events moved jobs from where to where."""
        found: Steps = {}
        for (_, queue, name, _, was, letter), moved in self._changes.items():
            found.setdefault((queue, name, was + letter), []).extend(moved)
        return found


def _counted(was: str, letter: str) -> list[tuple[str, int]]:
    changes = [(letter, 1), (was, -1) if was else (ENQUEUED, 1)]
    if letter in FLOWS and was:
        changes.append((FLOWS[letter], 1))
    return changes


def spread(counts: Counts, sign: int = 1) -> dict[tuple[int | str, ...], int]:
    """The same over seconds, minutes, hours and days; durations are not kept by the second.

    With `sign` -1 it is to be taken back.
    """
    found: dict[tuple[int | str, ...], int] = {}
    for (second, queue, name, what, of), number in counts.items():
        if number:
            for size in SIZES if what not in (WAIT, RUN) else SIZES[1:]:
                key = (size, second - second % size, queue, name, what, of)
                found[key] = found.get(key, 0) + sign * number
    return found


def milliseconds(time: datetime) -> int:
    """Since 1970."""
    return int(time.timestamp() * 1000)


def bucket(milliseconds: int) -> int:
    """Where a duration is counted: 0 for less than one, then four for each doubling."""
    return 0 if milliseconds < 1 else int(log2(milliseconds) * STEPS) + 1


def seconds(bucket: int) -> float:
    """The middle of a bucket."""
    return 0.0005 if bucket == 0 else float(2 ** ((bucket - 0.5) / STEPS)) / 1000


def written(move: Move) -> str:
    """A move as it is kept with its job: how often it moved bounds how much that is."""
    due = f",{move.due}" if move.due != move.at else ""
    return f"{move.letter}{move.at}{due} "


def read(text: str) -> list[Move]:
    """The moves in what `written` gave, one after the other."""
    return [_read(word) for word in text.split()]


def _read(word: str) -> Move:
    at, _, due = word[1:].partition(",")
    return Move(word[0], int(at), int(due or at))
