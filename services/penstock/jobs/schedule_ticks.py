"""When a schedule ticks, which ticks are due, and what is made of those missed. Never any I/O.

Nothing here reads a clock: the same functions serve a clock of tests. Moments given out are UTC.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Protocol
from zoneinfo import ZoneInfo, available_timezones

import msgspec
from cronsim import CronSim, CronSimError

from penstock.contracts.errors import InvalidMessage
from penstock.contracts.schedules import Missed, Overlap, Timing

GRACE = timedelta(seconds=60)  # a tick that comes later is missed
MOST = 1000  # ticks that are looked at when a schedule wakes up, the newest
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
EXAMPLE = (
    "'0 9 * * 1-5' is 9:00 from Monday to Friday (minute, hour, day of month, month, day of week)"
)
MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_EVERY = re.compile(r"@every\s+((?:\d+[dhms])+)")
_UNITS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}


class Ticks(Protocol):
    """The times of one timing, without its start and end."""

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Each tick later than `moment`, in order."""
        ...


class Every(msgspec.Struct, frozen=True):
    """Each `seconds`, counted from `origin`."""

    seconds: int
    origin: datetime

    def after(self, moment: datetime) -> Iterator[datetime]:
        """See Ticks."""
        step = timedelta(seconds=self.seconds)
        tick = self.origin + ((moment - self.origin) // step + 1) * step
        while True:
            yield tick
            tick += step


class Cron(msgspec.Struct, frozen=True):
    """By a cron expression in a zone. As Debian's cron does where clocks change: what falls into
    the hour left out runs right after it, and what falls into the hour repeated runs once; what is
    for every hour or minute goes by the time that passes.
    """

    expression: str
    zone: ZoneInfo

    def after(self, moment: datetime) -> Iterator[datetime]:
        """See Ticks."""
        for found in CronSim(self.expression, moment.astimezone(self.zone)):
            tick = found.astimezone(UTC)
            if tick > moment:  # two fall on one where clocks go forward
                yield tick
                moment = tick


class Made(msgspec.Struct, frozen=True):
    """What is made of the ticks that are due, the last one at `through`: these `run`."""

    through: datetime
    run: tuple[datetime, ...]
    skipped: int
    overlapping: int


def checked(timing: Timing) -> Timing:
    """`timing` in its plain form: `@every 10m` as `every`, times in whole seconds.

    Raises InvalidMessage, which says what is wrong and what would be right.
    """
    if timing.start and timing.start.microsecond:
        start = timing.start.replace(microsecond=0) + SECOND
        timing = msgspec.structs.replace(timing, start=start)
    if timing.cron and timing.cron.strip().lower().startswith("@every"):
        if timing.every is not None:
            raise _wrong("Give either `cron` or `every`, not both.", "every")
        timing = msgspec.structs.replace(timing, cron=None, every=_interval(timing.cron))
    if timing.start and timing.end and timing.start > timing.end:
        raise _wrong("`end` is before `start`: no tick would ever come.", "end")
    if (timing.cron is None) == (timing.every is None):
        raise _wrong(
            "Say when to run: either `cron`, such as '0 9 * * 1-5', or `every`, in seconds.", "cron"
        )
    if timing.cron is not None:
        _check(timing.cron)
    parse(timing)
    return timing


def parse(timing: Timing) -> Ticks:
    """The ticks of `timing`, which was `checked`. Raises InvalidMessage for an unknown time zone,
    since not every machine knows the same ones.
    """
    zone = _zone(timing.timezone)
    if timing.every is not None:
        return Every(timing.every, timing.start or EPOCH)
    return Cron(_plain(timing.cron or ""), zone)


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


def _interval(text: str) -> int:
    found = _EVERY.fullmatch(text.strip().lower())
    seconds = sum(
        int(number) * _UNITS[unit]
        for number, unit in re.findall(r"(\d+)([dhms])", found[1] if found else "")
    )
    if not 1 <= seconds <= 366 * _UNITS["d"]:
        raise _wrong(
            f"{text!r} is not an interval from a second to a year; '@every 10m' or '@every 1h30m' "
            "would be (d, h, m and s).",
            "cron",
        )
    return seconds


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        near = difflib.get_close_matches(name, available_timezones(), 1, 0.6)
        meant = f"did you mean {near[0]!r}?" if near else "one is 'Europe/Berlin', or 'UTC'."
        raise _wrong(f"There is no time zone {name!r}: {meant}", "timezone") from None


def _plain(expression: str) -> str:
    return MACROS.get(expression.strip().lower(), expression)


def _check(expression: str) -> None:
    plain = _plain(expression)
    if plain.lstrip().startswith("@"):
        raise _wrong(
            f"{expression!r} is not known; there are {', '.join(MACROS)} and '@every 10m'.", "cron"
        )
    try:
        comes = next(CronSim(plain, EPOCH), None)  # it looks 50 years ahead
    except CronSimError as error:
        what = str(error).lower()
        raise _wrong(f"{expression!r} is not a cron expression: {what}; {EXAMPLE}.", "cron") from (
            error
        )
    if comes is None:
        raise _wrong(f"{expression!r} never comes: there is no such day; {EXAMPLE}.", "cron")


def _wrong(sentence: str, field: str) -> InvalidMessage:
    return InvalidMessage(sentence, path=f"$.data.timing.{field}")
