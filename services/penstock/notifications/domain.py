"""What an inbox and a channel are: `decide` and `evolve`. Pure: time and ids arrive as data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_never

import msgspec
from msgspec.structs import replace

from penstock.contracts.envelope import Envelope
from penstock.contracts.errors import InvalidMessage, NotFound, TooLarge
from penstock.contracts.notifications import (
    INBOX,
    MAX_CONTENT,
    Broadcast,
    BroadcastSent,
    FeedState,
    MarkRead,
    NotificationSent,
    NotificationsRead,
    SendNotification,
    channel_of,
    command_id,
)
from penstock.infra.deciding.decider import Context

Command = SendNotification | Broadcast | MarkRead
Event = NotificationSent | BroadcastSent | NotificationsRead


def decide(
    state: FeedState | None, command: msgspec.Struct, context: Context
) -> Sequence[msgspec.Struct]:
    """The events that `command` causes. Raises InvalidMessage, TooLarge or NotFound."""
    known = _known_command(command)
    feed = context.command.subject
    match known:
        case SendNotification():
            _belongs(feed, "user:", "A notification is sent to an inbox")
            return [NotificationSent(id=_id(known, context.command), content=_content(known))]
        case Broadcast():
            _belongs(feed, "channel:", "A broadcast goes to a channel")
            return [BroadcastSent(id=_id(known, context.command), content=_content(known))]
        case MarkRead():
            _belongs(feed, "user:", "Reading happens in an inbox")
            return _read(state, known, feed)
        case _:
            assert_never(known)


def _known_command(command: msgspec.Struct) -> Command:
    if isinstance(command, Command):
        return command
    raise TypeError(f"not a command of notifications: {type(command).__name__}")


def _belongs(feed: str, kind: str, what: str) -> None:
    if not feed.startswith(kind) or feed in (kind, channel_of(INBOX)):
        raise InvalidMessage(f"{what}, whose id is {kind}<name>, not {feed!r}.", path="$.subject")


def _id(command: SendNotification | Broadcast, envelope: Envelope) -> str:
    """The notification's id. One id is one command, so that sending twice is sending once."""
    if command.id is None:
        return envelope.id
    wanted = command_id(envelope.subject, command.id)
    if envelope.id != wanted:
        raise InvalidMessage(
            f"The command that sends {command.id!r} has the id {wanted!r}, not {envelope.id!r}; "
            "or leave the notification's id out, and the command's is taken.",
            path="$.id",
        )
    return command.id


def _content(command: SendNotification | Broadcast) -> dict[str, Any]:
    size = len(msgspec.json.encode(command.content))
    if size > MAX_CONTENT:
        raise TooLarge(
            f"A notification has at most {MAX_CONTENT} bytes of content, this one {size}; "
            "put large content elsewhere and send where it is."
        )
    return command.content


def _read(state: FeedState | None, command: MarkRead, feed: str) -> Sequence[Event]:
    if state is None:
        raise NotFound(f"The inbox {feed!r} has no notifications to read.", id=feed)
    if not command.ids and command.through is None:
        return []
    return [NotificationsRead(ids=command.ids, through=command.through)]


def evolve(state: FeedState | None, event: msgspec.Struct, envelope: Envelope) -> FeedState:
    """The state after `event`."""
    feed = state or FeedState(id=envelope.subject)
    known = _known_event(event)
    match known:
        case NotificationSent() | BroadcastSent():
            return replace(
                feed,
                notifications=feed.notifications + 1,
                last_id=known.id,
                last_time=envelope.time,
            )
        case NotificationsRead():
            return feed
        case _:
            assert_never(known)


def _known_event(event: msgspec.Struct) -> Event:
    if isinstance(event, Event):
        return event
    raise TypeError(f"not an event of notifications: {type(event).__name__}")
