"""The tree of causes, from events alone: nothing is left out, and nothing is made up."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from penstock.client.flow import MOST, Step, flow_lines, flow_tree, shortened
from penstock.contracts.answers import HistoryEntry

BEGAN = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


def at(milliseconds: float) -> datetime:
    return BEGAN + timedelta(milliseconds=milliseconds)


def entry(
    type: str,
    ms: float,
    id: str,
    *,
    by: str | None = None,
    command: str | None = None,
    of: str | None = None,
    subject: str = "a",
    version: int = 1,
    data: object = None,
) -> HistoryEntry:
    """An event `id` at `ms`, caused by `by`: the command of this type, which `of` caused."""
    return HistoryEntry(
        sequence=version,
        service=type.split(".", maxsplit=1)[0],
        subject=subject,
        version=version,
        id=id,
        type=f"penstock.{type}.v1",
        time=at(ms),
        data={} if data is None else data,
        correlationid="flow",
        causationid=by,
        causationtype=f"penstock.{command}.v1" if command else None,
        causationtime=at(ms - 1) if command else None,
        causationcause=of,
        actor="ada",
    )


def outline(steps: list[Step]) -> list[object]:
    """What is under what: names, and a list for what they caused."""
    return [x for step in steps for x in (step.name, *([outline(step.caused)] * bool(step.caused)))]


JOB = [
    entry("jobs.queued", 2, "c1:1", by="c1", command="jobs.enqueue"),
    entry("jobs.started", 5, "w:2", by="c1:1", version=2, data={"worker": "w1", "item": 1}),
    entry("progress.created", 8, "c2:1", by="c2", command="progress.create", of="w:2", subject="p"),
    entry("jobs.completed", 9, "w:3", by="w:2", version=3),
]


def test_what_a_handler_sends_is_under_its_attempt_and_that_under_the_job() -> None:
    under_started = ["progress.create", ["progress.created"], "jobs.completed"]
    expected = ["jobs.enqueue", ["jobs.queued", ["work queue", ["jobs.started", under_started]]]]
    for _ in range(5):
        assert outline(flow_tree(random.sample(JOB, len(JOB)))) == expected


def test_a_line_says_when_what_which_aggregate_who_and_where_work_went() -> None:
    assert flow_lines(JOB) == [
        "      +0.0 ms  command  jobs.enqueue  a  by ada",
        "      +1.0 ms    event    jobs.queued  a #1",
        "      +4.0 ms      hop      work queue  to w1",
        "      +4.0 ms        event    jobs.started  a #2",
        "      +6.0 ms          command  progress.create  p  by ada",
        "      +7.0 ms            event    progress.created  p #1",
        "      +8.0 ms          event    jobs.completed  a #3",
    ]


def test_one_command_id_for_two_aggregates_is_two_commands() -> None:
    entries = [
        entry("cache.invalidated", 2, f"c:{tag}", by="c", command="cache.invalidate", subject=tag)
        for tag in ("a", "b")
    ]
    assert outline(flow_tree(entries)) == ["cache.invalidate", ["cache.invalidated"]] * 2


def test_a_command_with_the_id_of_an_event_is_not_taken_for_it() -> None:
    entries = [
        entry("cache.invalidated", 2, "c:a:1", by="c:a", command="cache.invalidate", subject="a"),
        entry("cache.invalidated", 3, "c:a:1:1", by="c:a:1", command="cache.invalidate"),
    ]
    assert outline(flow_tree(entries)) == ["cache.invalidate", ["cache.invalidated"]] * 2


def test_a_cause_that_no_log_has_holds_together_what_it_caused() -> None:
    entries = [
        entry("cache.invalidated", n, f"c{n}:1", by=f"c{n}", command="cache.invalidate", of="m-1",
              subject=str(n))
        for n in (2, 3)
    ]  # fmt: skip
    assert outline(flow_tree(entries)) == [
        "m-1",
        ["cache.invalidate", ["cache.invalidated"]] * 2,
    ]
    old = [entry("jobs.queued", 1, "e:1", by="c-9"), entry("jobs.failed", 2, "e:2")]
    assert outline(flow_tree(old)) == ["c-9", ["jobs.queued"], "jobs.failed"]


def test_a_long_flow_tells_neighbours_of_one_kind_in_one_line() -> None:
    many = [
        entry("progress.updated", 2 * n, f"u{n}:1", by=f"u{n}", command="progress.update",
              of="w:2", subject="p", version=n)
        for n in range(6, 6 + MOST)
    ]  # fmt: skip
    lines = flow_lines([*JOB[:2], *many])
    assert len(lines) == 6
    assert lines[4].endswith(f"  by ada  and {MOST - 1} more, to +{2 * (5 + MOST) - 2:.1f} ms")
    assert len(flow_lines([*JOB[:2], *many], every=True)) == 4 + 2 * MOST
    tree = flow_tree(JOB)
    assert shortened(tree) == tree


def test_no_events_are_no_flow() -> None:
    assert (flow_tree([]), flow_lines([])) == ([], [])
