"""The judge of killed jobs finds each kind of fault in a log that is doctored to have it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from penstock.contracts.envelope import wrap
from penstock.contracts.jobs import (
    JobCancelled,
    JobCompleted,
    JobError,
    JobFailed,
    JobQueued,
    JobReleased,
    JobRetrying,
    JobStarted,
)
from penstock.infra.event_log import Recorded
from support.faults.job_checker import check, doubly_completed, lost, slowest_takeover
from support.faults.job_plan import Asked
from support.faults.job_stories import Stories, restarts

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
QUEUED = JobQueued(name="square", payload={"n": 3, "flaky": False})
FAILED = JobError(type="ConnectionError", message="The first attempt fails.")
DIED = JobError(type="WorkerLost", message="The worker died.")


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def started(attempt: int = 1, worker: str = "worker-1:7") -> JobStarted:
    return JobStarted(attempt=attempt, worker=worker, item=attempt)


def completed(attempt: int = 1, result: Any = 9) -> JobCompleted:
    return JobCompleted(attempt=attempt, result=result)


def retrying(error: JobError, attempt: int = 1) -> JobRetrying:
    return JobRetrying(attempt=attempt, error=error, run_at=at(0))


def stories(*events: msgspec.Struct, missing: int = 0, id: str = "job-3") -> Stories:
    """A log of one job with an event every second, but for the `missing` version."""
    return Stories(
        Recorded(
            place,
            wrap(
                data, id=f"e{place}", subject=id, time=at(place), correlationid="c", version=place
            ),
        )
        for place, data in enumerate(events, 1)
        if place != missing
    )


def asked(**more: Any) -> Asked:
    return Asked(number=3, **{"known": True, **more})


def found(log: Stories, **more: Any) -> list[str]:
    return sorted({violation.kind for violation in check([asked(**more)], log)})


GOOD = (QUEUED, started(), completed())


def test_a_job_that_ended_once_and_rightly_is_in_order() -> None:
    assert found(stories(*GOOD)) == []
    taken_over = (QUEUED, started(), retrying(DIED), started(1, "worker-2:8"), completed())
    assert found(stories(*taken_over)) == []
    retried = (QUEUED, started(), retrying(FAILED), started(2), completed(2))
    assert found(stories(*retried), flaky=True) == []
    cancelled = (QUEUED, JobCancelled())
    assert found(stories(*cancelled), cancel=True, told="cancelled") == []
    assert found(stories(*GOOD), cancel=True, told="refused") == []


def test_an_acknowledged_job_that_is_not_there_is_lost() -> None:
    assert found(stories()) == ["lost"]
    assert found(stories(), known=False) == []
    assert lost(check([asked()], stories())) == 1


@pytest.mark.parametrize("until", [1, 2])
def test_a_job_that_never_ended_is_lost(until: int) -> None:
    assert found(stories(*GOOD[:until])) == ["lost"]
    assert lost(check([asked()], stories(*GOOD[:until]))) == 1


def test_a_job_that_was_completed_twice_is_doubled() -> None:
    log = stories(*GOOD, completed())
    assert found(log) == ["doubled"]
    assert doubly_completed(log) == 1
    assert doubly_completed(stories(*GOOD)) == 0


@pytest.mark.parametrize("end", [JobCancelled(), JobFailed(attempt=1, error=FAILED)])
def test_a_job_that_ended_in_two_ways_is_doubled(end: msgspec.Struct) -> None:
    log = stories(*GOOD, end)
    assert found(log) == ["doubled"]
    assert doubly_completed(log) == 0


def test_a_job_that_was_made_twice_is_doubled() -> None:
    assert found(stories(QUEUED, *GOOD)) == ["doubled"]


def test_a_job_that_went_on_after_its_end_is_found() -> None:
    assert found(stories(*GOOD, started(2))) == ["continued"]


def test_an_event_that_is_missing_is_a_gap() -> None:
    assert found(stories(QUEUED, started(), retrying(DIED), *GOOD[1:], missing=3)) == ["gap"]


def test_an_outcome_that_is_not_the_handlers_is_wrong() -> None:
    assert found(stories(QUEUED, started(), completed(result=8))) == ["wrong"]
    assert found(stories(QUEUED, started(), JobFailed(attempt=1, error=FAILED))) == ["wrong"]
    assert found(stories(QUEUED, JobCancelled())) == ["wrong"]
    assert found(stories(*GOOD), flaky=True) == ["wrong"]


def test_an_outcome_of_a_worker_that_lost_the_job_is_unfenced() -> None:
    late = (QUEUED, started(), retrying(DIED), started(2, "worker-2:8"), completed(1))
    assert found(stories(*late)) == ["unfenced"]


def test_an_end_against_what_the_client_was_told_is_contradicted() -> None:
    assert found(stories(*GOOD), cancel=True, told="cancelled") == ["contradicted"]
    cancelled = stories(QUEUED, JobCancelled())
    assert found(cancelled, cancel=True, told="refused") == ["contradicted"]
    assert found(cancelled, cancel=True) == []  # nobody was told


def test_a_start_before_its_time_is_early() -> None:
    queued = msgspec.structs.replace(QUEUED, run_at=at(5))
    assert found(stories(queued, started(), completed())) == ["early"]


def test_a_job_that_nobody_asked_for_is_found() -> None:
    kinds = [violation.kind for violation in check([], stories(*GOOD, id="job-4"))]
    assert kinds == ["unasked"]


def test_starts_that_no_failure_asked_for_are_counted() -> None:
    released = JobReleased(attempt=1, worker="worker-1:7", item=1, reason="lost sight of")
    for events, times in [
        (GOOD, 0),
        ((QUEUED, started(), retrying(FAILED), started(2), completed(2)), 0),
        ((QUEUED, started(), retrying(DIED), started(1), completed()), 1),
        ((QUEUED, started(), released, started(1), retrying(DIED), started(1)), 2),
    ]:
        assert restarts(stories(*events).of["job-3"]) == times


def test_a_takeover_lasts_from_the_first_kill_to_the_next_start() -> None:
    log = stories(QUEUED, started(), retrying(DIED), started(1, "worker-2:8"), completed())
    kills = {"worker-1": [at(1.5), at(2.5), at(3)], "worker-2": [at(2.5)]}
    assert slowest_takeover(log, kills, []) == (1.5, 0)
    assert slowest_takeover(log, kills, [at(3)]) == (0, 1.5)
    assert slowest_takeover(log, {"worker-2": [at(2.5)]}, []) == (0, 0)
    retried = stories(QUEUED, started(), retrying(FAILED), started(2), completed(2))
    assert slowest_takeover(retried, kills, []) == (0, 0)
