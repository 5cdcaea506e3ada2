"""Judges the log of jobs by what was asked for and acknowledged. Reads nothing by itself.

A job that was acknowledged and is not there, or never ended, is `lost`; one that was made, or came
to an end, more than once is `doubled`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import pairwise

from support.faults.checker import Violation
from support.faults.job_plan import Asked
from support.faults.job_stories import ENDS, Moment, Stories, Story, count

NEAR = timedelta(seconds=10)  # after its kill a server is not at its best yet
EARLY = timedelta(milliseconds=50)  # that the server's clock and ours may differ


def check(asked: Iterable[Asked], stories: Stories) -> list[Violation]:
    """Everything that is not as it was promised; empty when all is well."""
    by_id = {one.id: one for one in asked}
    found = [_violation("unasked", id, "nobody asked for it") for id in stories.of.keys() - by_id]
    for id, one in by_id.items():
        found += _job(one, stories.of.get(id, []))
    return found


def lost(found: Iterable[Violation]) -> int:
    """How many jobs were lost."""
    return len({violation.aggregate for violation in found if violation.kind == "lost"})


def doubly_completed(stories: Stories) -> int:
    """How many jobs were completed more than once."""
    return sum(count(story, "completed") > 1 for story in stories.of.values())


def slowest_takeover(
    stories: Stories, kills: Mapping[str, list[datetime]], server: list[datetime]
) -> tuple[float, float]:
    """Seconds, at most, from the kill of a worker until a job that it ran was started again.

    The second figure is of those during which, or shortly before, the `server` was killed too.
    `kills` are those of each worker, by the name before the colon; 0.0 if no job lost its worker.
    """
    slowest = [0.0, 0.0]
    for story in stories.of.values():
        for start, again in pairwise(m for m in story if m.name == "started"):
            killed = _first_between(kills.get(start.worker.partition(":")[0], []), start, again)
            if killed and _lost_between(story, start, again):
                with_server = any(start.time - NEAR < kill < again.time for kill in server)
                seconds = (again.time - killed).total_seconds()
                slowest[with_server] = max(slowest[with_server], seconds)
    return slowest[0], slowest[1]


def _first_between(kills: list[datetime], start: Moment, again: Moment) -> datetime | None:
    return next((kill for kill in kills if start.time < kill < again.time), None)


def _lost_between(story: Story, start: Moment, again: Moment) -> bool:
    between = [m for m in story if start.sequence < m.sequence < again.sequence]
    return not between or any(m.lost or m.name == "released" for m in between)


def _job(asked: Asked, story: Story) -> Iterator[Violation]:
    if not story:
        if asked.known:
            yield _violation("lost", asked.id, "it was acknowledged and is not there")
        return
    yield from _form(asked.id, story)
    ends = [moment for moment in story if moment.name in ENDS]
    if not ends:
        yield _violation("lost", asked.id, f"it never came to an end: {_shown(story)}")
        return
    yield from _end(asked, ends[0], story)
    yield from _attempts(asked, story)


def _form(id: str, story: Story) -> Iterator[Violation]:
    """One beginning, one end, and nothing missing between."""
    versions = [moment.version for moment in story]
    if versions != list(range(1, len(story) + 1)):
        yield _violation("gap", id, f"its versions are {versions}")
    if story[0].name != "queued" or count(story, "queued") > 1:
        yield _violation("doubled", id, f"it was not made once: {_shown(story)}")
    ends = sum(moment.name in ENDS for moment in story)
    if ends > 1:
        yield _violation("doubled", id, f"it ended {ends} times: {_shown(story)}")
    elif ends and story[-1].name not in ENDS:
        yield _violation("continued", id, f"it went on after its end: {_shown(story)}")


def _end(asked: Asked, end: Moment, story: Story) -> Iterator[Violation]:
    if end.name == "failed" or (end.name == "cancelled" and not asked.cancel):
        yield _violation("wrong", asked.id, f"it should not have {_shown(story)}")
    if end.name == "completed" and end.result != asked.result:
        what = f"its outcome is {end.result!r} and not {asked.result!r}"
        yield _violation("wrong", asked.id, what)
    if (asked.told == "cancelled") != (end.name == "cancelled") and asked.told:
        what = f"its cancellation was answered {asked.told!r}: {_shown(story)}"
        yield _violation("contradicted", asked.id, what)


def _attempts(asked: Asked, story: Story) -> Iterator[Violation]:
    """Each attempt begins no earlier than it may, and only the latest one ends the job."""
    running, not_before = 0, None
    for moment in story:
        match moment.name:
            case "queued" | "retrying":
                not_before = moment.run_at
            case "started":
                if not_before and moment.time < not_before - EARLY:
                    yield _violation("early", asked.id, f"it started too early: {_shown(story)}")
                running = moment.attempt
            case "completed" if moment.attempt != running:
                what = f"attempt {moment.attempt} completed it beside {running}: {_shown(story)}"
                yield _violation("unfenced", asked.id, what)
            case "completed" if asked.flaky and moment.attempt == 1:
                yield _violation("wrong", asked.id, "its first attempt should have failed")


def _violation(kind: str, id: str, what: str) -> Violation:
    return Violation(kind, "jobs", id, what)


def _shown(story: Story) -> str:
    return ", ".join(
        f"{m.name}{f' {m.attempt}' if m.attempt else ''}{f' by {m.worker}' if m.worker else ''}"
        f" at {m.sequence}"
        for m in story
    )
