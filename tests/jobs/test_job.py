"""Jobs by equality: given events, when a command comes, then events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from penstock.contracts.envelope import wrap
from penstock.contracts.errors import NotFound, Refused, TooLarge
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import (
    Backoff,
    CancelJob,
    DiscardJob,
    EnqueueJob,
    JobCancelled,
    JobCheckpointed,
    JobCompleted,
    JobDiscarded,
    JobError,
    JobFailed,
    JobQueued,
    JobReady,
    JobRedriven,
    JobReleased,
    JobRetrying,
    JobSnoozed,
    JobStarted,
    RedriveJob,
    Rules,
)
from penstock.infra.deciding.decider import Context
from penstock.jobs.job import Command, Offer, Wait, Withdraw, decide, next_step, ready
from penstock.jobs.job_evolve import ERRORS_KEPT, Event, evolve

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = NOW + timedelta(seconds=90)
QUEUED = JobQueued(name="resize", payload={"size": 3}, queue="images", priority=7)
STARTED = JobStarted(attempt=1, worker="w-1", item=4)
BOOM = JobError(type="ValueError", message="boom")
FAILED = JobFailed(attempt=1, error=BOOM)
RETRYING = JobRetrying(attempt=1, error=BOOM, run_at=LATER)


def given(*events: Event) -> JobState | None:
    state = None
    for version, data in enumerate(events, 1):
        time = NOW + timedelta(seconds=version)
        envelope = wrap(data, id=f"e-{version}", subject="j", time=time, correlationid="flow")
        state = evolve(state, data, envelope)
    return state


def job(*events: Event) -> JobState:
    state = given(*events)
    assert state is not None
    return state


def when(state: JobState | None, command: Command) -> list[msgspec.Struct]:
    envelope = wrap(command, id="c", subject="j", time=NOW, correlationid="flow")
    return list(decide(state, command, Context(NOW, envelope)))


def test_a_job_is_queued_as_it_was_asked_for() -> None:
    command = EnqueueJob(
        name="resize",
        payload={"size": 3},
        queue="images",
        priority=7,
        max_attempts=9,
        backoff=Backoff(initial=2),
        tags=("a",),
    )
    assert when(None, command) == [
        JobQueued(
            name="resize",
            payload={"size": 3},
            queue="images",
            priority=7,
            max_attempts=9,
            backoff=Backoff(initial=2),
            tags=("a",),
        )
    ]


def test_a_delayed_job_is_queued_for_its_time() -> None:
    assert when(None, EnqueueJob(name="x", delay=90)) == [JobQueued(name="x", run_at=LATER)]


@pytest.mark.parametrize("further", [(), (STARTED,), (STARTED, JobCompleted(attempt=1))])
def test_queueing_twice_is_queueing_once(further: tuple[Event, ...]) -> None:
    same = EnqueueJob(name="resize", payload={"size": 3})
    assert when(given(QUEUED, *further), same) == []


@pytest.mark.parametrize(
    "other", [EnqueueJob(name="resize", payload={"size": 4}), EnqueueJob(name="crop")]
)
def test_another_job_under_the_same_id_is_refused(other: EnqueueJob) -> None:
    with pytest.raises(Refused, match="another name or payload"):
        when(given(QUEUED), other)


def test_a_payload_that_no_message_holds_is_refused() -> None:
    with pytest.raises(TooLarge, match="at most 524288"):
        when(None, EnqueueJob(name="x", payload={"a": "b" * 524_288}))


@pytest.mark.parametrize("further", [(), (STARTED,), (STARTED, RETRYING)])
def test_a_job_that_is_not_over_can_be_cancelled(further: tuple[Event, ...]) -> None:
    cancel = CancelJob(reason="enough")
    assert when(given(QUEUED, *further), cancel) == [JobCancelled(reason="enough")]


def test_cancelling_twice_is_cancelling_once() -> None:
    assert when(given(QUEUED, JobCancelled()), CancelJob()) == []


def test_what_is_over_or_unknown_cannot_be_cancelled() -> None:
    with pytest.raises(Refused, match="completed already"):
        when(given(QUEUED, STARTED, JobCompleted(attempt=1)), CancelJob())
    with pytest.raises(NotFound):
        when(None, CancelJob())


def test_a_job_goes_through_its_attempts_to_its_result() -> None:
    again = JobStarted(attempt=2, worker="w-2", item=5)
    state = job(QUEUED, STARTED, RETRYING, again, JobCompleted(attempt=2, result=[1]))
    assert state == JobState(
        id="j",
        name="resize",
        state="completed",
        queue="images",
        priority=7,
        payload={"size": 3},
        attempt=2,
        max_attempts=3,
        backoff=Backoff(),
        result=[1],
        errors=(BOOM,),
        worker="w-2",
        created=NOW + timedelta(seconds=1),
        started=NOW + timedelta(seconds=4),
        ended=NOW + timedelta(seconds=5),
        correlationid="flow",
    )


def test_between_attempts_a_job_tells_why_and_until_when_it_waits() -> None:
    state = job(QUEUED, STARTED, RETRYING)
    assert (state.state, state.error, state.run_at) == ("retrying", BOOM, LATER)
    assert (state.attempt, state.worker) == (1, None)


def test_a_failed_job_keeps_its_errors_but_not_without_end() -> None:
    attempts = [
        event
        for number in range(1, 41)
        for event in (
            JobStarted(attempt=number, worker="w", item=1),
            JobRetrying(attempt=number, error=BOOM, run_at=NOW),
        )
    ]
    state = job(QUEUED, *attempts, JobFailed(attempt=41, error=JobError(type="E", message="end")))
    assert (state.state, state.error) == ("failed", JobError(type="E", message="end"))
    assert len(state.errors) == ERRORS_KEPT
    assert state.errors[-1] == state.error


def test_a_released_job_waits_again_and_its_attempt_does_not_count() -> None:
    state = job(QUEUED, STARTED, JobReleased(attempt=1, worker="w-1", item=4, reason="r"))
    assert (state.state, state.attempt, state.worker) == ("pending", 0, None)


def test_an_event_before_the_first_is_an_error() -> None:
    with pytest.raises(ValueError, match="before any JobQueued"):
        given(STARTED)


def test_a_job_that_waits_is_offered_with_its_last_sequence() -> None:
    item = JobReady(
        name="resize",
        payload=msgspec.Raw(b'{"size":3}'),
        attempt=1,
        max_attempts=3,
        backoff=Backoff(),
        sequence=12,
    )
    assert next_step(job(QUEUED), 12) == Offer(item)


def test_a_job_with_a_time_gets_a_timer_and_a_cancelled_one_is_withdrawn() -> None:
    assert next_step(job(JobQueued(name="x", run_at=LATER)), 1) == Wait(LATER)
    assert next_step(job(QUEUED, STARTED, RETRYING), 3) == Wait(LATER)
    assert next_step(job(QUEUED, JobCancelled()), 2) == Withdraw()


def test_a_job_in_a_workers_hands_or_completed_asks_for_nothing() -> None:
    assert next_step(job(QUEUED, STARTED), 2) is None
    assert next_step(job(QUEUED, STARTED, JobCompleted(attempt=1)), 3) is None


def test_a_failed_job_leaves_no_item_behind() -> None:
    assert next_step(job(QUEUED, STARTED, FAILED), 3) == Withdraw()


def test_a_redriven_job_has_new_budgets_and_keeps_its_errors() -> None:
    lost = JobRetrying(attempt=1, error=BOOM, run_at=LATER, crash=True)
    state = job(QUEUED, STARTED, lost, STARTED, FAILED)
    assert (state.attempt, state.crashes, state.cause) == (1, 1, "attempts")
    assert when(state, RedriveJob(reason="fixed")) == [JobRedriven(reason="fixed")]
    again = job(QUEUED, STARTED, lost, STARTED, FAILED, JobRedriven())
    assert (again.state, again.attempt, again.crashes, again.cause) == ("pending", 0, 0, None)
    assert again.errors == (BOOM, BOOM)
    assert when(again, RedriveJob()) == []


def test_a_completed_job_is_not_redriven() -> None:
    with pytest.raises(Refused, match="rerun"):
        when(job(QUEUED, STARTED, JobCompleted(attempt=1)), RedriveJob())


def test_a_crash_and_a_snooze_spend_no_attempt() -> None:
    lost = JobRetrying(attempt=1, error=BOOM, run_at=LATER, crash=True)
    assert (job(QUEUED, STARTED, lost).attempt, job(QUEUED, STARTED, lost).crashes) == (0, 1)
    snoozed = job(QUEUED, STARTED, JobSnoozed(attempt=1, run_at=LATER, reason="busy"))
    assert (snoozed.attempt, snoozed.state, snoozed.run_at) == (0, "pending", LATER)


def test_only_a_failed_job_is_discarded_and_once() -> None:
    failed = job(QUEUED, STARTED, FAILED)
    assert when(failed, DiscardJob()) == [JobDiscarded()]
    assert when(job(QUEUED, STARTED, FAILED, JobDiscarded()), DiscardJob()) == []
    with pytest.raises(Refused, match="only failed"):
        when(job(QUEUED), DiscardJob())


def test_a_checkpoint_goes_with_the_next_item() -> None:
    state = job(QUEUED, STARTED, JobCheckpointed(attempt=1, checkpoint={"row": 7}), RETRYING)
    assert ready(state, 4).checkpoint == {"row": 7}


def test_a_total_timeout_is_counted_from_the_enqueueing() -> None:
    command = EnqueueJob(name="x", rules=Rules(total_timeout=90))
    assert when(None, command) == [
        JobQueued(name="x", expires_at=LATER, rules=Rules(total_timeout=90))
    ]
