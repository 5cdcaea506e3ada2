"""What a worker decides, by equality: given an event, when something happens, then events."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from penstock.client.worker.decisions import (
    Append,
    Drop,
    End,
    Event,
    Failure,
    Wait,
    after_crash,
    after_failure,
    delay_before_retry,
    taking,
)
from penstock.client.worker.policy import (
    Action,
    PermanentFailure,
    RetryPolicy,
    Snooze,
    dead,
    discard,
    retry,
    snooze,
)
from penstock.contracts.jobs import (
    Backoff,
    JobCancelled,
    JobCheckpointed,
    JobCompleted,
    JobDiscarded,
    JobError,
    JobFailed,
    JobLogged,
    JobQueued,
    JobReady,
    JobRedriven,
    JobReleased,
    JobRetrying,
    JobSnoozed,
    JobStarted,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BOOM = JobError(type="ValueError", message="boom")
LOST = JobError(
    type="WorkerLost", message="The worker w-1 died, or did not renew its lease in time."
)


SNOOZED = JobSnoozed(attempt=1, run_at=NOW, reason="")
READY = JobReady(
    name="x",
    payload=msgspec.Raw(b"{}"),
    attempt=1,
    max_attempts=3,
    backoff=Backoff(),
    sequence=1,
)
STARTED = JobStarted(attempt=1, worker="w-1", item=7)


def failed(
    *, attempt: int, action: Action | None = None, jitter: float = 0.5, over: bool = False
) -> End:
    return after_failure(
        Failure(BOOM, action or retry(), over=over),
        attempt=attempt,
        max_attempts=3,
        backoff=Backoff(initial=10, factor=2, maximum=15),
        now=NOW,
        jitter=jitter,
    )


def conflict(*since: Event, item: int = 7, crashes: int = 0) -> Drop | Wait | Append:
    ready = msgspec.structs.replace(READY, crashes=crashes)
    return taking(since, ready, item=item, worker="w-2", now=NOW)


@pytest.mark.parametrize(
    ("attempt", "jitter", "seconds"),
    [(1, 1.0, 10), (1, 0.5, 5), (1, 0.0, 0), (2, 1.0, 15), (100, 1.0, 15)],
)
def test_the_wait_grows_up_to_its_maximum_and_jitters_over_all_of_it(
    attempt: int, jitter: float, seconds: float
) -> None:
    backoff = Backoff(initial=10, factor=2, maximum=15)
    assert delay_before_retry(backoff, attempt, jitter) == timedelta(seconds=seconds)


def test_the_steepest_backoff_of_the_last_attempt_is_still_a_time() -> None:
    steepest = Backoff(initial=86_400, factor=100, maximum=366 * 86_400)
    assert delay_before_retry(steepest, 100, 1.0) == timedelta(days=366)


def test_a_failed_attempt_is_followed_by_another_after_a_while() -> None:
    run_at = NOW + timedelta(seconds=5)
    assert failed(attempt=1) == JobRetrying(attempt=1, error=BOOM, run_at=run_at)


def test_the_last_attempt_fails_the_job() -> None:
    assert failed(attempt=3) == JobFailed(attempt=3, error=BOOM)


def test_what_is_dead_fails_the_job_at_once() -> None:
    end = failed(attempt=1, action=dead())
    assert end == JobFailed(attempt=1, error=BOOM, cause="permanent")


def test_what_is_discarded_is_cancelled_and_keeps_its_error() -> None:
    assert failed(attempt=1, action=discard()) == JobCancelled(reason="boom", error=BOOM)


def test_a_snooze_comes_back_also_in_the_last_attempt() -> None:
    run_at = NOW + timedelta(seconds=30)
    end = failed(attempt=3, action=snooze(30))
    assert end == JobSnoozed(attempt=3, run_at=run_at, reason="boom")


def test_a_backoff_of_the_policy_stands_for_the_jobs_own() -> None:
    run_at = NOW + timedelta(seconds=1)
    end = failed(attempt=1, action=retry(Backoff(initial=2)))
    assert end == JobRetrying(attempt=1, error=BOOM, run_at=run_at)


def test_when_the_time_of_the_job_is_over_no_attempt_follows() -> None:
    assert failed(attempt=1, over=True) == JobFailed(attempt=1, error=BOOM, cause="timeout")


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (FileNotFoundError("a"), dead()),  # the nearest class counts
        (PermissionError("a"), snooze(5)),
        (KeyError("a"), discard()),
        (ValueError("a"), retry()),
        (PermanentFailure("a"), dead()),
        (Snooze(timedelta(minutes=1)), snooze(60)),
    ],
)
def test_the_class_of_the_exception_says_what_follows(error: Exception, action: Action) -> None:
    policy = RetryPolicy({OSError: snooze(5), FileNotFoundError: dead(), LookupError: discard()})
    assert policy.after(error) == action


@pytest.mark.parametrize("wrong", [lambda: snooze(-1), lambda: RetryPolicy(max_attempts=0)])
def test_a_policy_that_cannot_be_is_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="at least"):
        wrong()


@pytest.mark.parametrize(
    "last",
    [
        JobCompleted(attempt=1),
        JobFailed(attempt=1, error=BOOM),
        JobCancelled(),
        JobQueued(name="x"),
        JobRedriven(),
        JobDiscarded(),
    ],
)
def test_an_item_of_a_job_that_is_over_is_dropped(last: Event) -> None:
    assert conflict(last) == Drop()


def test_another_item_than_the_one_that_holds_the_job_is_a_duplicate() -> None:
    assert conflict(JobStarted(attempt=1, worker="w-1", item=7), item=8) == Drop()
    released = JobReleased(attempt=1, worker="w-1", item=7, reason="")
    assert conflict(released, item=8) == Drop()


def test_the_same_item_again_takes_the_job_over_and_spends_a_crash_but_no_attempt() -> None:
    assert conflict(STARTED) == Append(
        (
            JobRetrying(attempt=1, error=LOST, run_at=NOW, crash=True),
            JobStarted(attempt=1, worker="w-2", item=7),
        )
    )


def test_a_job_over_which_too_many_workers_died_is_quarantined() -> None:
    lost = JobRetrying(attempt=1, error=LOST, run_at=NOW, crash=True)
    quarantined = Append((JobFailed(attempt=1, error=LOST, cause="crashes"),))
    assert conflict(STARTED, lost, STARTED, lost, STARTED) == quarantined
    assert conflict(STARTED, crashes=2) == quarantined
    assert conflict(STARTED, crashes=1) != quarantined


def test_a_process_that_died_spends_a_crash_and_is_waited_for() -> None:
    def crashed(crashes: int) -> Event:
        return after_crash(
            BOOM,
            attempt=1,
            crashes=crashes,
            max_crashes=3,
            backoff=Backoff(initial=10),
            now=NOW,
            jitter=1.0,
        )

    run_at = NOW + timedelta(seconds=20)
    assert crashed(1) == JobRetrying(attempt=1, error=BOOM, run_at=run_at, crash=True)
    assert crashed(2) == JobFailed(attempt=1, error=BOOM, cause="crashes")


def test_what_a_lost_attempt_told_does_not_hide_that_it_was_lost() -> None:
    said = (JobCheckpointed(attempt=1, checkpoint=7), JobLogged(attempt=1, lines=()))
    assert conflict(STARTED, *said) == conflict(STARTED)


def test_an_item_of_a_job_that_nothing_happened_to_starts_it() -> None:
    assert conflict() == Append((JobStarted(attempt=1, worker="w-2", item=7),))


def test_a_released_job_goes_on_with_the_same_attempt() -> None:
    released = JobReleased(attempt=3, worker="w-1", item=7, reason="")
    assert conflict(released) == Append((JobStarted(attempt=3, worker="w-2", item=7),))


@pytest.mark.parametrize("waits", [JobRetrying(attempt=1, error=BOOM, run_at=NOW), SNOOZED])
def test_an_item_of_a_job_that_waits_only_sets_its_timer(waits: Event) -> None:
    assert conflict(waits) == Wait(NOW)
