"""What a worker decides, by equality: given an event, when something happens, then events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from penstock.client.worker.decisions import (
    Append,
    Drop,
    Event,
    Wait,
    after_conflict,
    after_failure,
    delay_before_retry,
)
from penstock.contracts.jobs import (
    Backoff,
    JobCancelled,
    JobCompleted,
    JobError,
    JobFailed,
    JobQueued,
    JobReleased,
    JobRetrying,
    JobStarted,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BOOM = JobError(type="ValueError", message="boom")
LOST = JobError(
    type="WorkerLost", message="The worker w-1 died, or did not renew its lease in time."
)


def failed(*, attempt: int, permanent: bool = False, jitter: float = 0.5) -> Event:
    return after_failure(
        BOOM,
        permanent=permanent,
        attempt=attempt,
        max_attempts=3,
        backoff=Backoff(initial=10, factor=2, maximum=15),
        now=NOW,
        jitter=jitter,
    )


def conflict(last: Event, *, item: int = 7) -> Drop | Wait | Append:
    return after_conflict(last, item=item, worker="w-2", max_attempts=3, now=NOW)


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


def test_a_permanent_failure_ends_the_job_at_once() -> None:
    assert failed(attempt=1, permanent=True) == JobFailed(attempt=1, error=BOOM)


@pytest.mark.parametrize(
    "last",
    [
        JobCompleted(attempt=1),
        JobFailed(attempt=1, error=BOOM),
        JobCancelled(),
        JobQueued(name="x"),
    ],
)
def test_an_item_of_a_job_that_is_over_is_dropped(last: Event) -> None:
    assert conflict(last) == Drop()


def test_an_item_of_a_job_that_waits_to_be_retried_only_sets_its_timer() -> None:
    assert conflict(JobRetrying(attempt=1, error=BOOM, run_at=NOW)) == Wait(NOW)


def test_another_item_than_the_one_that_holds_the_job_is_a_duplicate() -> None:
    assert conflict(JobStarted(attempt=1, worker="w-1", item=7), item=8) == Drop()
    released = JobReleased(attempt=1, worker="w-1", item=7, reason="")
    assert conflict(released, item=8) == Drop()


def test_the_same_item_again_takes_the_job_over_and_costs_an_attempt() -> None:
    assert conflict(JobStarted(attempt=1, worker="w-1", item=7)) == Append(
        (
            JobRetrying(attempt=1, error=LOST, run_at=NOW),
            JobStarted(attempt=2, worker="w-2", item=7),
        )
    )


def test_a_worker_lost_in_the_last_attempt_fails_the_job() -> None:
    assert conflict(JobStarted(attempt=3, worker="w-1", item=7)) == Append(
        (JobFailed(attempt=3, error=LOST),)
    )


def test_a_released_job_goes_on_with_the_same_attempt() -> None:
    released = JobReleased(attempt=3, worker="w-1", item=7, reason="")
    assert conflict(released) == Append((JobStarted(attempt=3, worker="w-2", item=7),))
