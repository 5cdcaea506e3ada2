"""Which ticks of a schedule are to come, which are due, and what is made of those missed.

Never any I/O, and nothing here reads a clock: the same functions serve a clock of tests. Moments
given out are UTC.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import islice

import msgspec

from penstock.contracts.schedules import Missed, Overlap, Timing
from penstock.jobs.schedule_timing import SECOND, parse

GRACE = timedelta(seconds=60)  # a tick that comes later is missed
MOST = 1000  # ticks that are looked at when a schedule wakes up, the newest


class Made(msgspec.Struct, frozen=True):
    """What is made of the ticks that are due, the last one at `through`: these `run`."""

    through: datetime
    run: tuple[datetime, ...]
    skipped: int
    overlapping: int


def upcoming(timing: Timing, after: datetime) -> Iterator[datetime]:
    """Each tick later than `after`, in order, from the timing's start to its end."""
    if timing.start:
        after = max(after, timing.start - SECOND)
    with suppress(OverflowError):  # no calendar here goes beyond the year 9999
        for tick in parse(timing).after(after):
            if timing.end and tick > timing.end:
                return
            yield tick


def next_tick(timing: Timing, after: datetime) -> datetime | None:
    """The first tick later than `after`, if one is to come."""
    return next(upcoming(timing, after), None)


def due_ticks(timing: Timing, after: datetime, now: datetime) -> tuple[list[datetime], int]:
    """The ticks later than `after` that are due at `now`, and how many more there were.

    At most the newest MOST; those before are counted for intervals only, since cron's would have
    to be gone through one by one.
    """
    found = _between(timing, after, now)
    first = list(islice(found, MOST + 1))
    if len(first) <= MOST:
        return first, 0
    newest = _newest(timing, first[0], now)
    if timing.every is None:
        return newest, 0
    return newest, (newest[0] - first[0]) // timedelta(seconds=timing.every)


def make(
    ticks: list[datetime],
    now: datetime,
    missed: Missed,
    most: int,
    *,
    overlap: Overlap = "allow",
    busy: bool = False,
) -> Made:
    """What is made of `ticks`, which are due at `now` and not empty.

    A tick is missed if a later one is due as well, or if it comes later than GRACE. `busy` tells
    that the schedule's last job is not over: with the `overlap` "skip" no tick runs then, and never
    more than one at a time.
    """
    run = chosen = _chosen(ticks, now, missed, most)
    if overlap == "skip":
        run = [] if busy else chosen[-1:]
    return Made(
        through=ticks[-1],
        run=tuple(run),
        skipped=len(ticks) - len(run),
        overlapping=len(chosen) - len(run),
    )


def delay_of(job: str, tick: datetime, jitter: float, now: datetime) -> float:
    """Seconds that the job of a tick waits yet: its share of `jitter`, always the same for it."""
    if not jitter:
        return 0.0
    share = int.from_bytes(hashlib.blake2b(job.encode(), digest_size=4).digest()) / 2**32
    return max(0.0, (tick - now).total_seconds() + share * jitter)


def _chosen(ticks: list[datetime], now: datetime, missed: Missed, most: int) -> list[datetime]:
    match missed:
        case "skip":
            return ticks[-1:] if now - ticks[-1] <= GRACE else []
        case "latest":
            return ticks[-1:]
        case "all":
            return ticks[-most:]


def _between(timing: Timing, after: datetime, until: datetime) -> Iterator[datetime]:
    for tick in upcoming(timing, after):
        if tick > until:
            return
        yield tick


def _newest(timing: Timing, first: datetime, now: datetime) -> list[datetime]:
    """The newest MOST ticks up to `now`, sought in ever longer spans before it.

    `first` is a tick with more than MOST behind it.
    """
    end = min(now, timing.end) if timing.end else now
    span = timedelta(minutes=1)
    while True:
        begin = max(first - SECOND, end - span)
        found = deque(_between(timing, begin, end), maxlen=MOST)
        if len(found) == MOST:
            return list(found)
        span *= 2
