"""Notifications: its commands, events, state and answers, version 1. Never any logic.

An inbox is the aggregate `user:<user>`, a channel is `channel:<name>`. Each has its own subject, so
that the stream sequence of a notification is a reader's position.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from penstock.contracts.answers import Question
from penstock.contracts.envelope import Time, command, event
from penstock.contracts.subjects import token

SERVICE = "notifications"
INBOX = "inbox"  # what a reader calls their own inbox; no channel has this name
MAX_CONTENT = 32 * 1024  # bytes of JSON: a pushed frame stays within 64 KiB
MAX_MARKED = 100
LONGEST_TOKEN = 86_400

NotificationId = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=240)]


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What all messages here share. States, unlike messages, always show every field."""


@command(SERVICE, "send")
class SendNotification(Message, frozen=True, kw_only=True):
    """Put a notification into the inbox `user:<user>`.

    `content` is the application's own, by custom `title`, `body` and `data`; at most 32 KiB of
    JSON. With an `id`, the id of the command is `command_id(aggregate, id)`: the same notification
    is then sent once, however often it is asked for. Without one, the command's id is its id.
    """

    content: dict[str, Any]
    id: NotificationId | None = None


@command(SERVICE, "broadcast")
class Broadcast(Message, frozen=True, kw_only=True):
    """Publish a notification on `channel:<name>`. Content and id as in `SendNotification`."""

    content: dict[str, Any]
    id: NotificationId | None = None


@command(SERVICE, "mark_read")
class MarkRead(Message, frozen=True, kw_only=True):
    """Notifications of the inbox `user:<user>` were read: these `ids`, and all up to `through`.

    `through` is a notification's stream sequence. Ids that are unknown or read have no effect.
    """

    ids: Annotated[tuple[NotificationId, ...], msgspec.Meta(max_length=MAX_MARKED)] = ()
    through: Annotated[int, msgspec.Meta(ge=1)] | None = None


@event(SERVICE, "sent")
class NotificationSent(Message, frozen=True, kw_only=True):
    """A notification came into an inbox."""

    id: str
    content: dict[str, Any]


@event(SERVICE, "broadcast_sent")
class BroadcastSent(Message, frozen=True, kw_only=True):
    """A notification was published on a channel."""

    id: str
    content: dict[str, Any]


@event(SERVICE, "read")
class NotificationsRead(Message, frozen=True, kw_only=True):
    """Notifications were read: these `ids`, and all up to the sequence `through`."""

    ids: tuple[str, ...] = ()
    through: int | None = None


class FeedState(msgspec.Struct, frozen=True, kw_only=True):
    """An inbox or a channel in figures: how many notifications it ever had, and the last one.

    It stays small however long the feed grows; the list of an inbox is the query `inbox`.
    """

    id: str
    notifications: int = 0
    last_id: str | None = None
    last_time: Time | None = None


class ListInbox(Question, frozen=True, kw_only=True, omit_defaults=True):
    """A user's notifications, newest first; `before` is the last one's sequence, to page on."""

    user: Name
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 50
    before: int | None = None
    unread: bool = False


class InboxItem(msgspec.Struct, frozen=True, kw_only=True):
    """A notification in an inbox; `read` is when it was read."""

    id: str
    sequence: int
    content: dict[str, Any]
    time: Time
    read: Time | None = None


class Inbox(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a user's notifications, and how many are unread in all.

    `version` is the sequence of the last event of the inbox: of two counts the one with the higher
    version holds, and listening from there misses nothing.
    """

    user: str
    items: tuple[InboxItem, ...]
    unread: int
    version: int


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """A notification is stored: its id, and its stream sequence."""

    id: str
    sequence: int


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """A notification as it arrives. `channel` is `inbox` or a channel's name.

    `replay`: it is older than the subscription that it came by.
    """

    id: str
    sequence: int
    channel: str
    content: dict[str, Any]
    time: Time
    replay: bool = False


class IssueToken(Question, frozen=True, kw_only=True, omit_defaults=True):
    """An access token for a user's socket; `lifetime` in seconds. Answered over NATS only."""

    user: Name
    lifetime: Annotated[int, msgspec.Meta(ge=1, le=LONGEST_TOKEN)] = 3600


class AccessToken(msgspec.Struct, frozen=True, kw_only=True):
    """Proves to the gateway who its bearer is, until `expires`."""

    token: str
    expires: Time


def inbox_of(user: str) -> str:
    """The aggregate that is a user's inbox."""
    return f"user:{user}"


def channel_of(name: str) -> str:
    """The aggregate that is a channel."""
    return f"channel:{name}"


def command_id(feed: str, notification: str) -> str:
    """The id of the command that sends `notification` to the inbox or channel `feed`.

    It follows from both, so that the rule "a command id has one effect" makes a notification
    sent twice one notification. Raises InvalidMessage if either is no usable id.
    """
    return f"notify.{token(feed)}.{token(notification)}"
