"""When schedules tick: by cron in a zone whose clocks change, at intervals, and after a pause."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.contracts.errors import InvalidMessage
from penstock.contracts.schedules import Missed, Overlap, Timing
from penstock.jobs.schedule_ticks import (
    GRACE,
    MOST,
    delay_of,
    due_ticks,
    make,
    next_tick,
    upcoming,
)
from penstock.jobs.schedule_timing import MACROS, checked

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def ticks(timing: Timing, after: str, count: int) -> list[str]:
    """The next ticks in UTC, such as `2026-01-31 09:30`."""
    found = islice(upcoming(timing, at(after)), count)
    return [f"{tick:%Y-%m-%d %H:%M}" for tick in found]


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        ("0 9 * * 1-5", "2026-01-30 10:00", ["2026-02-02 09:00", "2026-02-03 09:00"]),
        ("0 0 29 2 *", "2026-01-01", ["2028-02-29 00:00", "2032-02-29 00:00"]),
        ("0 0 31 * *", "2026-03-01", ["2026-03-31 00:00", "2026-05-31 00:00"]),
        ("0 0 L * *", "2028-01-31 12:00", ["2028-02-29 00:00", "2028-03-31 00:00"]),
        ("*/20 23 * * *", "2026-12-31 23:30", ["2026-12-31 23:40", "2027-01-01 23:00"]),
        ("@monthly", "2026-01-31", ["2026-02-01 00:00", "2026-03-01 00:00"]),
    ],
)
def test_cron_ticks_at_the_times_it_names(cron: str, after: str, expected: list[str]) -> None:
    assert ticks(Timing(cron=cron), after, 2) == expected


@pytest.mark.parametrize(
    ("cron", "spring", "autumn"),
    [
        # What is for a certain time runs once: after the gap, and in the first of the two hours.
        ("30 2 * * *", "29 01:00, 30 00:30, 31 00:30", "25 00:30, 26 01:30, 27 01:30"),
        ("0,30 2 * * *", "29 01:00, 30 00:00, 30 00:30", "25 00:00, 25 00:30, 26 01:00"),
        # What is for every hour or so goes by the time that passes.
        ("30 * * * *", "29 00:30, 29 01:30, 29 02:30", "25 00:30, 25 01:30, 25 02:30"),
        ("*/40 * * * *", "29 00:40, 29 01:00, 29 01:40", "25 00:40, 25 01:00, 25 01:40"),
    ],
)
def test_where_clocks_change_nothing_is_left_out_or_done_twice(
    cron: str, spring: str, autumn: str
) -> None:
    berlin = Timing(cron=cron, timezone="Europe/Berlin")
    for month, expected in ((3, spring), (10, autumn)):
        whole = [f"2026-{month:02}-{tick}" for tick in expected.split(", ")]
        day_before = f"{at(whole[0]) - timedelta(days=1):%Y-%m-%d} 23:00"
        found = ticks(berlin, day_before, 99)
        assert found[found.index(whole[0]) :][:3] == whole


@given(
    st.sampled_from(
        ["30 2 * * *", "0,30 1-3 * * *", "*/15 * * * *", "7 */2 * * *", "5 4 3,29 * 1"]
    ),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]),
    st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31)),
)
@settings(max_examples=150)
def test_begun_anew_at_any_moment_the_ticks_are_the_same(
    cron: str, zone: str, begin: datetime
) -> None:
    """So a schedule may be taken up anywhere, by anyone, without a tick too many or too few."""
    timing, moment = Timing(cron=cron, timezone=zone), begin.replace(tzinfo=UTC)
    earlier = upcoming(timing, moment - timedelta(days=3))
    expected = list(islice((tick for tick in earlier if tick > moment), 40))
    assert list(islice(upcoming(timing, moment), 40)) == expected
    for tick, following in pairwise(expected):
        assert next_tick(timing, tick) == following
        assert next_tick(timing, tick + (following - tick) / 2) == following


def test_an_interval_counts_from_its_start_or_else_from_the_epoch() -> None:
    assert ticks(Timing(every=600), "2026-01-31 09:35", 2) == [
        "2026-01-31 09:40",
        "2026-01-31 09:50",
    ]
    late = Timing(every=600, start=at("2026-01-31 09:37"), end=at("2026-01-31 09:57"))
    whole = ["2026-01-31 09:37", "2026-01-31 09:47", "2026-01-31 09:57"]
    assert ticks(late, "2026-01-31 09:00", 9) == whole
    assert ticks(late, "2026-01-31 09:40", 9) == whole[1:]


def test_what_is_asked_for_beyond_the_calendar_does_not_come() -> None:
    assert len(ticks(Timing(cron="@yearly"), "9990-06-01", 50)) == 9
    assert len(ticks(Timing(every=366 * 86_400), "9990-06-01", 50)) == 10


@pytest.mark.parametrize(
    ("timing", "plain"),
    [
        (Timing(cron="@every 1h30m"), Timing(every=5400)),
        (Timing(cron=" @every 2d"), Timing(every=172_800)),
        (Timing(cron="@daily"), Timing(cron="@daily")),
        (Timing(every=5, start=NOW + SECOND / 2), Timing(every=5, start=NOW + SECOND)),
    ],
)
def test_a_timing_is_kept_in_its_plain_form(timing: Timing, plain: Timing) -> None:
    assert checked(timing) == plain


@pytest.mark.parametrize(
    ("timing", "sentence"),
    [
        (Timing(cron="60 * * * *"), "bad minute; '0 9"),
        (Timing(cron="* * * *"), "wrong number of fields; '0 9"),
        (Timing(cron="0 0 30 2 *"), "bad day-of-month"),
        (Timing(cron="@reboot"), "'@reboot' is not known; there are @hourly"),
        (Timing(cron="@every 5 minutes"), "'@every 10m'"),
        (Timing(cron="@every 0s"), "from a second to a year"),
        (Timing(cron="@daily", timezone="Europe/Belrin"), "did you mean 'Europe/Berlin'"),
        (Timing(every=1, timezone="../passwd"), "There is no time zone"),
        (Timing(), "either `cron`, such as"),
        (Timing(cron="@daily", every=5), "either `cron`, such as"),
        (Timing(every=5, start=NOW, end=NOW - SECOND), "`end` is before `start`"),
    ],
)
def test_what_is_wrong_is_said_with_what_would_be_right(timing: Timing, sentence: str) -> None:
    with pytest.raises(InvalidMessage) as refused:
        checked(timing)
    assert sentence in str(refused.value)
    assert refused.value.fields["path"].startswith("$.data.timing.")


@pytest.mark.parametrize("macro", MACROS)
def test_every_short_form_is_understood(macro: str) -> None:
    assert next_tick(checked(Timing(cron=macro)), NOW)


def test_of_a_long_time_only_the_newest_ticks_are_looked_at() -> None:
    year = NOW - timedelta(days=365)
    found, before = due_ticks(Timing(every=1), year, NOW)
    assert (len(found), found[-1], before) == (MOST, NOW, 365 * 86_400 - MOST)
    minutes = Timing(cron="* * * * *", timezone="Europe/Berlin")
    found, _ = due_ticks(minutes, year, NOW)
    assert found == [NOW - n * timedelta(minutes=1) for n in range(MOST)][::-1]
    ended = Timing(every=1, end=NOW - timedelta(days=30))
    assert due_ticks(ended, year, NOW)[0][-1] == ended.end
    assert due_ticks(Timing(cron="@monthly"), year, NOW)[0][0] == at("2025-02-01")


DUE = [NOW - n * timedelta(minutes=10) for n in range(4)][::-1]


@pytest.mark.parametrize(
    ("late", "missed", "run"),
    [
        (0, "skip", DUE[-1:]),
        (60, "skip", DUE[-1:]),
        (61, "skip", []),
        (300, "latest", DUE[-1:]),
        (300, "all", DUE[-3:]),
    ],
)
def test_missed_ticks_are_skipped_or_made_up_for(
    late: int, missed: Missed, run: list[datetime]
) -> None:
    made = make(DUE, NOW + late * SECOND, missed, 3)
    assert (made.through, list(made.run), made.skipped) == (NOW, run, 4 - len(run))
    assert GRACE == 60 * SECOND


@pytest.mark.parametrize(
    ("overlap", "busy", "run", "overlapping"),
    [("allow", True, 3, 0), ("skip", False, 1, 2), ("skip", True, 0, 3)],
)
def test_jobs_of_one_schedule_overlap_only_if_they_may(
    overlap: Overlap, busy: bool, run: int, overlapping: int
) -> None:
    made = make(DUE, NOW, "all", 3, overlap=overlap, busy=busy)
    assert (list(made.run), made.overlapping) == (DUE[len(DUE) - run :], overlapping)


def test_jitter_spreads_the_jobs_and_is_the_same_whoever_asks() -> None:
    waits = [delay_of(f"s{n}@t", NOW, 30.0, NOW) for n in range(200)]
    assert waits == [delay_of(f"s{n}@t", NOW, 30.0, NOW) for n in range(200)]
    assert min(waits) < 3
    assert 27 < max(waits) <= 30
    assert delay_of("s0@t", NOW, 30.0, NOW + 60 * SECOND) == 0.0
    assert delay_of("s0@t", NOW, 0.0, NOW) == 0.0
