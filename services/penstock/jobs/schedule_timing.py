"""What a timing means: checked, in its plain form, and its ticks without an end. Never any I/O.

Moments given out are UTC. What is made of the ticks is for `schedule_ticks`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo, available_timezones

import msgspec
from cronsim import CronSim, CronSimError

from penstock.contracts.errors import InvalidMessage
from penstock.contracts.schedules import Timing

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
