"""`ps.notifications`: send to users and channels, read inboxes, listen. Never keeps a list."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import msgspec

from penstock.client.session import Session
from penstock.client.socket import PushSocket
from penstock.contracts.errors import Refused, Unavailable
from penstock.contracts.notifications import (
    INBOX,
    MAX_MARKED,
    SERVICE,
    AccessToken,
    Broadcast,
    Inbox,
    IssueToken,
    ListInbox,
    MarkRead,
    Notification,
    Receipt,
    SendNotification,
    channel_of,
    command_id,
    inbox_of,
)
from penstock.contracts.push import Event

_decode_content = msgspec.json.Decoder(dict[str, Any]).decode


class Notifications:
    """Notifications to users, into their inboxes, and to all who read a channel.

    `http_url` is where the gateway's sockets are; only `listen` needs it.
    """

    def __init__(self, session: Session, http_url: str | None) -> None:
        self._session = session
        self._http_url = http_url

    async def send(
        self, user: str, content: Mapping[str, Any], *, id: str | None = None
    ) -> Receipt:
        """Put a notification into the inbox of `user`; stored when this returns.

        `content` is any JSON object up to 32 KiB, such as `{"title": ..., "body": ..., "data":
        ...}`. With an `id` of your own, up to 128 characters, sending it again to the same user
        has no effect, however much later. Raises TooLarge, InvalidMessage.
        """
        id = id if id is not None else uuid.uuid4().hex
        command = SendNotification(id=id, content=dict(content))
        return await self._send(inbox_of(user), id, command)

    async def broadcast(
        self, content: Mapping[str, Any], *, channel: str, id: str | None = None
    ) -> Receipt:
        """Publish a notification to everyone who reads `channel`. As `send` in all else."""
        id = id if id is not None else uuid.uuid4().hex
        return await self._send(channel_of(channel), id, Broadcast(id=id, content=dict(content)))

    async def inbox(
        self, user: str, *, limit: int = 50, before: int | None = None, unread: bool = False
    ) -> Inbox:
        """A page of the inbox, newest first, with the count of all that are unread.

        `before` is the `sequence` of the last one of the page before; `unread` leaves out those
        that were read. A user unknown here has an empty inbox.
        """
        question = ListInbox(user=user, limit=limit, before=before, unread=unread)
        found, _ = await self._session.ask(SERVICE, "inbox", question, Inbox)
        return found

    async def mark_read(
        self, user: str, ids: str | Iterable[str] = (), *, through: int | None = None
    ) -> None:
        """These notifications were read, and all up to and with the sequence `through`.

        Marking twice changes nothing. Raises NotFound if the user never had a notification.
        """
        ids = (ids,) if isinstance(ids, str) else tuple(ids)
        for start in range(0, max(1, len(ids)), MAX_MARKED):
            command = MarkRead(ids=ids[start : start + MAX_MARKED], through=through)
            await self._session.command(command, id=inbox_of(user))

    async def token(self, user: str, *, lifetime: timedelta = timedelta(hours=1)) -> AccessToken:
        """An access token with which `user` may open a socket; at most a day.

        Give it to the user's browser over a way that you trust: its bearer reads their inbox.
        """
        question = IssueToken(user=user, lifetime=round(lifetime.total_seconds()))
        token, _ = await self._session.ask(SERVICE, "token", question, AccessToken)
        return token

    async def listen(
        self,
        user: str,
        *,
        channels: Iterable[str] = (),
        after: int | Mapping[str, int] | None = None,
    ) -> AsyncGenerator[Notification, None]:
        """Notifications of the user's inbox, and of `channels`, as they come.

        Without `after` only new ones: those sent after the gateway took the subscription. With it,
        all after that sequence; give a mapping (`inbox` or channel to sequence) to go on in several
        at once. A lost connection, or a service that restarts, loses and repeats nothing.
        Never ends by itself. Raises Unavailable if no HTTP address is known, StartupError without
        aiohttp, Refused if what follows `after` is gone: read the inbox, go on from its `version`.
        """
        if self._http_url is None:
            raise Unavailable(
                "Listening needs the HTTP address of Penstock: Penstock(..., http_url=...), or "
                "PENSTOCK_HTTP_URL beside PENSTOCK_NATS_URL."
            )
        names = (INBOX, *channels)
        positions = {n: after.get(n) if isinstance(after, Mapping) else after for n in names}
        socket = PushSocket(self._http_url, lambda: self._fresh_token(user), positions)
        async with aclosing(socket.events()) as events:
            async for event in events:
                if event.type == "notification":
                    yield _notification(event)

    async def _fresh_token(self, user: str) -> str:
        if self._session.bus.nc.is_closed:
            raise Refused("The client was closed while listening.")
        return (await self.token(user)).token

    async def _send(self, feed: str, id: str, command: msgspec.Struct) -> Receipt:
        outcome = await self._session.command(command, id=feed, command_id=command_id(feed, id))
        return Receipt(id=id, sequence=outcome.sequence)


def _notification(event: Event) -> Notification:
    return Notification(
        id=event.id,
        sequence=event.seq,
        channel=event.ch,
        content=_decode_content(event.data),
        time=event.time,
        replay=event.replay,
    )
