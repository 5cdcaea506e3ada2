"""The usual ones of many jobs: what is stored of each is what would be stored of it by itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.client import JobSpec
from penstock.contracts.envelope import Envelope, decode, unwrap, wrap
from penstock.contracts.errors import Refused
from penstock.contracts.jobs import Backoff, Limit, Origin, Rules
from penstock.contracts.jobs_bulk import EnqueueJobs
from penstock.contracts.subjects import EXPECTED, MSG_ID, Subjects
from penstock.infra.deciding.decider import Context
from penstock.jobs.bulk_items import Item, event_of, item_of
from penstock.jobs.bulk_usual import KINDS, UsualJob, usual
from penstock.jobs.domain import decide, evolve
from penstock.jobs.job import ready
from penstock.jobs.offers import envelope_of

SUBJECTS = Subjects()
texts = st.text(min_size=1, max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)
rules = st.sampled_from(
    [Rules(), Rules(timeout=2.5), Rules(max_crashes=7, if_unhandled="fail"), Rules(tenant="t"),
     Rules(limit=Limit(key="k", at_most=2)), Rules(unique_key="u"), Rules(total_timeout=9)]
)  # fmt: skip
specs = st.builds(
    JobSpec,
    id=st.none() | st.sampled_from(["a", "b", "c/d", "queue:e", "ü", "all"]),
    name=texts,
    payload=st.dictionaries(texts, values, max_size=3),
    queue=st.sampled_from(["default", "a b", "100%b"]),
    priority=st.integers(0, 9),
    max_attempts=st.integers(1, 100),
    backoff=st.just(Backoff()) | st.builds(Backoff, initial=st.floats(0, 9)),
    tags=st.lists(texts, max_size=2).map(tuple),
    delay=st.sampled_from([0.0, 0.0, 3.0]),
    rules=rules,
    origin=st.sampled_from([None, Origin(workflow="w"), Origin(parent="p")]),
)


def command_of(*jobs: JobSpec, **more: Any) -> tuple[Envelope, EnqueueJobs]:
    data = EnqueueJobs(jobs=tuple(msgspec.Raw(msgspec.json.encode(job)) for job in jobs))
    now = datetime.now(UTC)
    command = wrap(data, id="c-1", subject="all", time=now, correlationid="flow", **more)
    return command, data


def found(command: Envelope, data: EnqueueJobs) -> list[UsualJob]:
    return list(usual(command, data.jobs, SUBJECTS, lambda _: None))


def by_itself(command: Envelope, raw: msgspec.Raw, job: UsualJob) -> Item:
    """The job as it goes where each is decided by itself, at the same moment."""
    item = item_of(command, raw, job.index)
    assert isinstance(item, Item)
    now = msgspec.json.decode(job.time, type=datetime)
    [queued] = decide(None, item.data, Context(now, item.command))
    item.event = event_of(item.command, queued, now)
    item.state = evolve(None, queued, item.event)
    return item


@settings(max_examples=200, deadline=None)
@given(st.lists(specs, max_size=12), st.none() | texts, st.none() | texts)
def test_what_is_written_is_what_would_be_of_each_by_itself(
    jobs: list[JobSpec], actor: str | None, trace: str | None
) -> None:
    command, data = command_of(*jobs, actor=actor, traceparent=trace, causationid="before")
    now = datetime.now(UTC)
    for job in found(command, data):
        item = by_itself(command, data.jobs[job.index], job)
        assert item.event is not None
        subject, body, headers = job.kind.event(job)
        event = decode(body)
        assert subject == SUBJECTS.event("jobs", job.id) and headers == {EXPECTED: "0"}
        assert same(event) == same(item.event)

        state: Any = item.state
        due = envelope_of(state, item.event, ready(state, 77), now)
        subject, body, headers = job.kind.item(job, 77, msgspec.json.encode(now))
        assert subject == SUBJECTS.work(state.queue, state.priority, job.id)
        assert headers == {MSG_ID: due.id}
        assert body == msgspec.json.encode(due)


def same(envelope: Envelope) -> tuple[object, object]:
    """With what its data mean: an empty payload may be left out, or not."""
    return unwrap(envelope), msgspec.structs.replace(envelope, data=msgspec.Raw(b"null"))


@settings(max_examples=100, deadline=None)
@given(st.lists(specs, max_size=12))
def test_those_that_have_to_wait_or_to_ask_are_left_out(jobs: list[JobSpec]) -> None:
    command, data = command_of(*jobs)
    ids = [job.id for job in found(command, data)]
    assert len(set(ids)) == len(ids) and not {"all", "c/d", "queue:e", "ü"} & set(ids)
    for job in found(command, data):
        spec = jobs[job.index]
        assert spec.rules in (
            Rules(),
            Rules(timeout=2.5),
            Rules(max_crashes=7, if_unhandled="fail"),
        )
        assert not spec.delay and spec.origin != Origin(parent="p")


def test_jobs_that_differ_in_their_payload_are_of_one_kind() -> None:
    command, data = command_of(*(JobSpec(name="add", payload={"n": n}) for n in range(500)))
    jobs = found(command, data)
    assert [job.index for job in jobs] == list(range(500))
    assert len({id(job.kind) for job in jobs}) == 1


def test_those_of_too_many_kinds_go_each_by_itself() -> None:
    command, data = command_of(*(JobSpec(name=f"n{n}") for n in range(KINDS + 3)))
    assert [job.index for job in found(command, data)] == list(range(KINDS))


def test_what_is_refused_or_not_valid_is_left_to_be_told_by_itself() -> None:
    command, data = command_of(JobSpec(name="a"), JobSpec(name=""), JobSpec(name="b"))
    jobs = usual(
        command, data.jobs, SUBJECTS, lambda job: Refused("full") if job.name == "b" else None
    )
    assert [job.index for job in jobs] == [0]
