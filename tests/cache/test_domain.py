"""Given a tag's state, when a command comes, then these events: all of the cache's decisions."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from penstock.cache.domain import decide, evolve, invalidations
from penstock.contracts.cache import InvalidateTag, TagInvalidated, TagState
from penstock.contracts.changes import EntityChanged
from penstock.contracts.envelope import Envelope, unwrap, wrap
from penstock.contracts.progress import CompleteProgress
from penstock.infra.deciding.decider import Context

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
CHANGE = EntityChanged(entity="user", id="1", tags=("profile", "user"), version=7)


def message(data: InvalidateTag | TagInvalidated | EntityChanged, version: int = 0) -> Envelope:
    return wrap(
        data,
        id="m-1",
        subject="user",
        time=NOW,
        correlationid="flow-1",
        actor="ann",
        version=version,
    )


def tag(*, count: int = 3, reflects: int = 0) -> TagState:
    return TagState(
        id="user", count=count, reason="r", cause="c", reflects=reflects, invalidated=NOW
    )


def decided(state: TagState | None, command: InvalidateTag) -> list[object]:
    return list(decide(state, command, Context(NOW, message(command))))


def test_invalidating_a_tag_is_one_event_that_keeps_reason_and_cause() -> None:
    command = InvalidateTag(reason="imported", cause="m-0")
    assert decided(None, command) == [TagInvalidated(reason="imported", cause="m-0")]
    assert decided(tag(), command) == [TagInvalidated(reason="imported", cause="m-0")]


@pytest.mark.parametrize(("reflected", "change", "then"), [(0, 5, 5), (4, 5, 5), (9, 5, 9)])
def test_what_a_tag_reflects_never_goes_back(reflected: int, change: int, then: int) -> None:
    [event] = decided(tag(reflects=reflected), InvalidateTag(change=change))
    assert event == TagInvalidated(reflects=then)


def test_an_invalidation_by_hand_keeps_what_the_tag_reflects() -> None:
    assert decided(tag(reflects=9), InvalidateTag()) == [TagInvalidated(reflects=9)]


def test_the_state_is_the_last_event_however_many_of_the_others_are_kept() -> None:
    event = TagInvalidated(reason="again", cause="m-2", reflects=8)
    after = TagState(id="user", count=4, reason="again", cause="m-2", reflects=8, invalidated=NOW)
    assert evolve(tag(count=3), event, message(event, 4)) == after
    assert evolve(None, event, message(event, 4)) == after


def test_a_change_invalidates_its_entity_its_instance_and_its_tags_once_each() -> None:
    commands = invalidations(message(CHANGE), CHANGE, 12)
    assert [c.subject for c in commands] == ["user", "user:1", "profile"]
    assert [c.id for c in commands] == ["m-1:user", "m-1:user:1", "m-1:profile"]
    assert {c.correlationid for c in commands} == {"flow-1"}
    assert {(c.causationid, c.actor) for c in commands} == {("m-1", "ann")}
    expected = InvalidateTag(reason="user 1 changed to version 7", cause="m-1", change=12)
    assert [unwrap(c) for c in commands] == [expected] * 3


def test_messages_of_other_services_are_no_business_of_the_cache() -> None:
    with pytest.raises(TypeError, match="not a command of cache"):
        decide(None, CompleteProgress(), Context(NOW, message(InvalidateTag())))
    with pytest.raises(TypeError, match="not an event of cache"):
        evolve(None, CompleteProgress(), message(InvalidateTag()))
