"""Given events, when a command, then events."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from penstock.contracts.envelope import Envelope, wrap
from penstock.contracts.errors import InvalidMessage, NotFound, TooLarge
from penstock.contracts.notifications import (
    MAX_CONTENT,
    Broadcast,
    BroadcastSent,
    FeedState,
    MarkRead,
    NotificationSent,
    NotificationsRead,
    SendNotification,
    command_id,
)
from penstock.infra.deciding.decider import Context
from penstock.notifications.domain import decide, evolve

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


def envelope(data: msgspec.Struct, feed: str, id: str = "c-1") -> Envelope:
    return wrap(data, id=id, subject=feed, time=NOW, correlationid="f")


def decided(
    command: msgspec.Struct, feed: str, *, id: str = "c-1", given: FeedState | None = None
) -> list[msgspec.Struct]:
    return list(decide(given, command, Context(NOW, envelope(command, feed, id))))


def test_a_notification_without_an_id_takes_that_of_its_command() -> None:
    assert decided(SendNotification(content={"a": 1}), "user:u") == [
        NotificationSent(id="c-1", content={"a": 1})
    ]
    assert decided(Broadcast(content={}), "channel:news") == [BroadcastSent(id="c-1", content={})]


def test_a_notification_with_an_id_has_one_command_for_each_inbox() -> None:
    command = SendNotification(id="n/1", content={})
    for feed in ("user:u", "user:v"):
        sent = decided(command, feed, id=command_id(feed, "n/1"))
        assert sent == [NotificationSent(id="n/1", content={})]
    with pytest.raises(InvalidMessage, match="not 'c-1'"):
        decided(command, "user:u")
    assert command_id("user:a", "b.c") != command_id("user:a.b", "c")


def test_content_may_be_as_large_as_the_limit_and_no_larger() -> None:
    most = "x" * (MAX_CONTENT - len('{"b":""}'))
    assert decided(SendNotification(content={"b": most}), "user:u")
    with pytest.raises(TooLarge):
        decided(SendNotification(content={"b": most + "x"}), "user:u")


@pytest.mark.parametrize(
    ("command", "feed"),
    [
        (SendNotification(content={}), "channel:news"),
        (SendNotification(content={}), "user:"),
        (Broadcast(content={}), "user:u"),
        (Broadcast(content={}), "channel:inbox"),
        (MarkRead(ids=("n",)), "channel:news"),
    ],
)
def test_each_command_belongs_to_its_kind_of_feed(command: msgspec.Struct, feed: str) -> None:
    with pytest.raises(InvalidMessage):
        decided(command, feed)


def test_reading_needs_an_inbox_and_something_to_read() -> None:
    inbox = FeedState(id="user:u", notifications=1)
    assert decided(MarkRead(ids=("n",), through=3), "user:u", given=inbox) == [
        NotificationsRead(ids=("n",), through=3)
    ]
    assert decided(MarkRead(), "user:u", given=inbox) == []
    with pytest.raises(NotFound):
        decided(MarkRead(ids=("n",)), "user:u")


def test_the_state_counts_and_knows_the_last_and_nothing_else() -> None:
    state = None
    for event in (
        NotificationSent(id="a", content={}),
        NotificationSent(id="b", content={"large": "x" * 1000}),
        NotificationsRead(ids=("a",)),
    ):
        state = evolve(state, event, envelope(event, "user:u"))
    assert state == FeedState(id="user:u", notifications=2, last_id="b", last_time=NOW)
