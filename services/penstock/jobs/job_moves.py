"""What a job's changes of state add to the counts: how many are where, come and go, and how long
they took. Pure.

Whatever is counted follows from the events alone, in any batches, so that a view that is made anew
counts the same.
"""

from __future__ import annotations

from math import log2
from typing import NamedTuple

LETTERS = {
    "pending": "p",
    "retrying": "w",
    "processing": "r",
    "completed": "c",
    "failed": "f",
    "cancelled": "x",
}
STATES = {letter: state for state, letter in LETTERS.items()}
ENQUEUED, COMPLETED, FAILED, WAIT, RUN = "+enqueued", "+completed", "+failed", "wait", "run"
STEPS = 4  # buckets in which a duration doubles: each is 19 percent wide
SIZES = (1, 60, 3600, 86_400)  # seconds that a count is over
KEPT = {1: 2 * 86_400, 60: 31 * 86_400, 3600: 366 * 86_400}  # seconds; the longest for ever

# By the second that it is of, queue, name, what is counted, and for durations the bucket.
Counts = dict[tuple[int, str, str, str, int], int]


class Move(NamedTuple):
    """A job came into a state `at` a time, and may be run from `due` on; in milliseconds."""

    letter: str
    at: int
    due: int


def count(
    counts: Counts, queue: str, name: str, before: Move | None, after: Move, sign: int = 1
) -> None:
    """Count one move, or with `sign` -1 take it back."""
    letter, at, _ = after
    second = at // 1000
    _add(counts, (second, queue, name, letter, 0), sign)
    if before is None:
        _add(counts, (second, queue, name, ENQUEUED, 0), sign)
        return
    was = before.letter
    _add(counts, (second, queue, name, was, 0), -sign)
    minute = second - second % 60
    if letter == "r" and was in "pw":
        _add(counts, (minute, queue, name, WAIT, bucket(at - before.due)), sign)
    elif was == "r" and letter in "cfw":
        _add(counts, (minute, queue, name, RUN, bucket(at - before.at)), sign)
    if letter == "c":
        _add(counts, (second, queue, name, COMPLETED, 0), sign)
    elif letter == "f":
        _add(counts, (second, queue, name, FAILED, 0), sign)


def _add(counts: Counts, key: tuple[int, str, str, str, int], number: int) -> None:
    counts[key] = counts.get(key, 0) + number


def spread(counts: Counts) -> dict[tuple[int | str, ...], int]:
    """The same over seconds, minutes, hours and days; durations are not kept by the second."""
    found: dict[tuple[int | str, ...], int] = {}
    for (second, queue, name, what, of), number in counts.items():
        if number:
            for size in SIZES if what not in (WAIT, RUN) else SIZES[1:]:
                key = (size, second - second % size, queue, name, what, of)
                found[key] = found.get(key, 0) + number
    return found


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
