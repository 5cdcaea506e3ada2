"""The questions about states in memory, answered as the views do. Never changes anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import islice
from typing import Any

from penstock.client.testing.absent import absent
from penstock.client.testing.log import MemoryLog
from penstock.contracts.answers import ById, FlowOf, HistoryOf, Question
from penstock.contracts.errors import NotFound
from penstock.contracts.job_reads import ListJobs, QueueDepth
from penstock.contracts.job_state import JobState
from penstock.contracts.progress import ListProgress, ProgressState
from penstock.contracts.queues import ListQueues, QueueState
from penstock.contracts.schedules import (
    ListSchedules,
    ScheduleState,
    ShownSchedule,
    ShowSchedule,
    schedule_id,
)

Read = Callable[[MemoryLog, Any, datetime], Any]


def answer(log: MemoryLog, name: str, question: Question, now: datetime) -> Any:
    """What is found. Raises NotFound, NotInMemory."""
    match question:
        case ById():
            return (
                log.found(question.id) if question.at is None else log.at(question.id, question.at)
            )
        case HistoryOf():
            return log.entries(question.id)
        case FlowOf():
            return log.flow(question.id)
    if (log.service, name) not in QUESTIONS:
        raise absent(f"the question {name!r} to {log.service}")
    return QUESTIONS[log.service, name](log, question, now)


def _jobs(log: MemoryLog, question: ListJobs, _: datetime) -> list[JobState]:
    wanted = {"state": question.state, "queue": question.queue, "name": question.name}
    found = [
        job
        for job in log.states.values()
        if isinstance(job, JobState)
        and all(value in (None, getattr(job, field)) for field, value in wanted.items())
    ]
    before = log.states.get(question.before) if question.before else None
    if question.before:
        found = [job for job in found if before and _age(job) < _age(before)]
    return sorted(found, key=_age, reverse=True)[: question.limit]


def _age(job: JobState) -> tuple[datetime, str]:
    return job.created, job.id


def _queues(log: MemoryLog, _: Question, now: datetime) -> list[QueueDepth]:
    jobs = [j for j in log.states.values() if isinstance(j, JobState) and not j.is_over]
    count = Counter((job.queue, job.priority, _standing(job, now)) for job in jobs)
    lanes = sorted({(job.queue, -job.priority) for job in jobs})
    return [
        QueueDepth(
            queue=queue,
            priority=-below,
            waiting=count[queue, -below, "waiting"],
            delayed=count[queue, -below, "delayed"],
            processing=count[queue, -below, "processing"],
        )
        for queue, below in lanes
    ]


def _standing(job: JobState, now: datetime) -> str:
    if job.state == "processing":
        return "processing"
    return "delayed" if job.run_at and job.run_at > now else "waiting"


def _progresses(log: MemoryLog, question: ListProgress, _: datetime) -> list[ProgressState]:
    found = [
        progress
        for progress in log.states.values()
        if not progress.cleaned_up
        and question.state in (None, progress.state)
        and (question.before is None or progress.created.isoformat() < question.before)
    ]
    return sorted(found, key=lambda one: one.created, reverse=True)[: question.limit]


def _schedules(log: MemoryLog, question: ListSchedules, _: datetime) -> list[ScheduleState]:
    found = [
        schedule
        for schedule in log.states.values()
        if isinstance(schedule, ScheduleState)
        and not schedule.deleted
        and schedule.name > question.after
        and question.paused in (None, schedule.paused)
    ]
    return sorted(found, key=lambda one: one.name)[: question.limit]


def _queue_states(log: MemoryLog, question: ListQueues, _: datetime) -> list[QueueState]:
    found = [one for one in log.states.values() if isinstance(one, QueueState)]
    after = [queue for queue in found if queue.name > question.after]
    return sorted(after, key=lambda one: one.name)[: question.limit]


def _schedule(log: MemoryLog, question: ShowSchedule, now: datetime) -> ShownSchedule:
    from penstock.jobs.schedule_ticks import upcoming

    id = schedule_id(question.name)
    schedule = log.states.get(id)
    if schedule is None or schedule.deleted:
        raise NotFound(f"There is no schedule {question.name!r}.", id=id)
    begin = now if schedule.paused else schedule.after
    ticks = upcoming(schedule.timing, question.after or begin)
    return ShownSchedule(schedule=schedule, next_runs=tuple(islice(ticks, question.next)))


QUESTIONS: Mapping[tuple[str, str], Read] = {
    ("jobs", "list"): _jobs,
    ("jobs", "queues"): _queues,
    ("jobs", "queue-states"): _queue_states,
    ("jobs", "schedules"): _schedules,
    ("jobs", "schedule"): _schedule,
    ("progress", "list"): _progresses,
}
