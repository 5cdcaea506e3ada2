"""Schedules by equality: given events, when a command comes, then events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from msgspec.structs import replace

from penstock.contracts.envelope import wrap
from penstock.contracts.errors import InvalidMessage, NotFound, TooLarge
from penstock.contracts.schedules import (
    DeleteSchedule,
    JobTemplate,
    PauseSchedule,
    PutSchedule,
    ResumeSchedule,
    ScheduleDeleted,
    SchedulePaused,
    SchedulePut,
    ScheduleResumed,
    ScheduleState,
    ScheduleTicked,
    ScheduleTriggered,
    Timing,
    TriggerSchedule,
)
from penstock.infra.deciding.decider import Context
from penstock.jobs.schedule import Command, Event, decide, evolve, finished, tick

NOW = datetime(2026, 1, 31, 9, 35, tzinfo=UTC)
STEP = timedelta(minutes=10)
FIRST = NOW + STEP / 2  # the tick after NOW
JOB = JobTemplate(name="report", payload={"a": 1})
PUT = PutSchedule(job=JOB, timing=Timing(every=600))
WAS_PUT = SchedulePut(job=JOB, timing=Timing(every=600), after=NOW, next=FIRST)
TICKED = ScheduleTicked(through=FIRST, run=(FIRST,), next=FIRST + STEP)


def given(*events: Event) -> ScheduleState | None:
    state = None
    for version, data in enumerate(events, 1):
        envelope = wrap(
            data, id=f"e-{version}", subject="schedule:s", time=NOW, correlationid="flow"
        )
        state = evolve(state, data, envelope)
    return state


def schedule(*events: Event) -> ScheduleState:
    state = given(*events)
    assert state is not None
    return state


def when(
    state: ScheduleState | None, command: Command, *, now: datetime = NOW, id: str = "schedule:s"
) -> list[msgspec.Struct]:
    envelope = wrap(command, id="c", subject=id, time=NOW, correlationid="flow")
    return list(decide(state, command, Context(now, envelope)))


def test_a_schedule_is_put_with_its_first_tick() -> None:
    assert when(None, PUT) == [WAS_PUT]


def test_putting_twice_is_putting_once() -> None:
    assert when(given(WAS_PUT, TICKED), PUT) == []
    same = replace(PUT, timing=Timing(cron="@every 10m"))
    assert when(given(WAS_PUT), same) == []


def test_another_job_at_the_same_times_leaves_the_ticks_as_they_were() -> None:
    other = replace(PUT, job=JobTemplate(name="other"))
    [put] = when(given(WAS_PUT), other, now=FIRST + STEP)
    assert put == replace(WAS_PUT, job=other.job)


def test_other_times_hold_from_now_on() -> None:
    now = FIRST + STEP + STEP / 2
    hourly = replace(PUT, timing=Timing(every=3600))
    [put] = when(given(WAS_PUT), hourly, now=now)
    assert put == SchedulePut(
        job=JOB, timing=hourly.timing, after=now, next=datetime(2026, 1, 31, 10, tzinfo=UTC)
    )


def test_a_paused_schedule_has_no_next_tick_and_stays_paused_when_put_anew() -> None:
    paused = schedule(WAS_PUT, SchedulePaused(reason="why"))
    assert (paused.next, paused.paused, paused.reason) == (None, True, "why")
    assert when(paused, PauseSchedule()) == []
    [put] = when(paused, replace(PUT, timing=Timing(every=60)))
    assert isinstance(put, SchedulePut)
    assert put.next is None
    assert schedule(WAS_PUT, SchedulePaused(), put).paused


def test_a_resumed_schedule_goes_on_with_the_tick_to_come() -> None:
    now = FIRST + 3 * STEP + STEP / 2
    paused = given(WAS_PUT, SchedulePaused())
    resumed = ScheduleResumed(after=now, next=FIRST + 4 * STEP)
    assert when(paused, ResumeSchedule(), now=now) == [resumed]
    assert schedule(WAS_PUT, SchedulePaused(), resumed).next == resumed.next
    assert when(given(WAS_PUT), ResumeSchedule()) == []


def test_a_schedule_runs_by_hand_once_for_each_command() -> None:
    triggered = ScheduleTriggered(job="s@now:c")
    assert when(given(WAS_PUT, SchedulePaused()), TriggerSchedule()) == [triggered]
    state = schedule(WAS_PUT, triggered)
    assert (state.last_job, state.triggered, state.next) == ("s@now:c", 1, FIRST)


def test_a_deleted_schedule_is_over_until_it_is_put_anew() -> None:
    deleted = schedule(WAS_PUT, TICKED, ScheduleDeleted())
    assert (finished(deleted), deleted.next) == ("deleted", None)
    assert when(given(WAS_PUT), DeleteSchedule(reason="r")) == [ScheduleDeleted(reason="r")]
    assert when(deleted, DeleteSchedule()) == []
    for command in (PauseSchedule(), ResumeSchedule(), TriggerSchedule()):
        with pytest.raises(NotFound, match="was deleted"):
            when(deleted, command)
    assert when(deleted, PUT) == [WAS_PUT]
    assert not schedule(WAS_PUT, ScheduleDeleted(), WAS_PUT).deleted


def test_there_is_nothing_to_do_with_a_schedule_that_is_not_there() -> None:
    for command in (PauseSchedule(), ResumeSchedule(), TriggerSchedule(), DeleteSchedule()):
        with pytest.raises(NotFound, match="no schedule 's'"):
            when(None, command)


def test_what_could_never_run_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="never run"):
        when(None, replace(PUT, timing=Timing(every=60, end=NOW - STEP)))
    with pytest.raises(InvalidMessage, match="no ':'"):
        when(None, PUT, id="schedule:queue:x")
    with pytest.raises(TooLarge, match="at most 524288"):
        when(None, replace(PUT, job=JobTemplate(name="x", payload={"a": "b" * 524_288})))


def test_a_tick_enqueues_its_job_and_tells_the_next() -> None:
    assert tick(schedule(WAS_PUT), FIRST, busy=False) == TICKED
    state = schedule(WAS_PUT, TICKED)
    assert (state.last, state.last_job) == (FIRST, "s@20260131T094000Z")
    assert (state.due, state.after, state.ran) == ((FIRST,), FIRST, 1)


def test_a_timer_that_goes_off_before_this_clock_says_so_is_due() -> None:
    assert tick(schedule(WAS_PUT), FIRST - timedelta(seconds=2), busy=False) == TICKED


def test_ticks_that_were_missed_are_counted_and_the_last_one_is_made_up_for() -> None:
    ticked = tick(schedule(WAS_PUT), FIRST + 3 * STEP, busy=False)
    newest = FIRST + 3 * STEP
    assert ticked == ScheduleTicked(through=newest, run=(newest,), skipped=3, next=newest + STEP)


def test_a_tick_that_passes_leaves_what_ran_last() -> None:
    busy = schedule(replace(WAS_PUT, overlap="skip"), TICKED)
    passed = tick(busy, FIRST + STEP, busy=True)
    assert passed == ScheduleTicked(
        through=FIRST + STEP, skipped=1, overlapping=1, next=FIRST + 2 * STEP
    )
    state = schedule(WAS_PUT, TICKED, passed)
    assert (state.due, state.last, state.ran, state.skipped) == ((), FIRST, 1, 1)


def test_the_last_tick_has_none_behind_it() -> None:
    until = schedule(replace(WAS_PUT, timing=Timing(every=600, end=FIRST)))
    ticked = tick(until, FIRST, busy=False)
    assert ticked == ScheduleTicked(through=FIRST, run=(FIRST,))
    assert tick(schedule(WAS_PUT, ticked), FIRST + STEP, busy=False) is None


def test_a_tick_that_a_newer_time_zone_database_does_not_know_passes() -> None:
    odd = replace(WAS_PUT, next=NOW + timedelta(seconds=1))
    ticked = tick(schedule(odd), NOW + timedelta(seconds=1), busy=False)
    assert ticked == ScheduleTicked(through=NOW + timedelta(seconds=1), next=FIRST)
