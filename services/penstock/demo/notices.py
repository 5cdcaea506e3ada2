"""The user's notifications, those missed and those that come, each shown once."""

from __future__ import annotations

import asyncio

from penstock.client import InboxItem, Notification, Penstock
from penstock.demo.display import Display

LATE = 10.0  # seconds to wait for notifications after the work


class Notices:
    """Shows notifications while the block runs, beginning with those unread."""

    def __init__(self, ps: Penstock, user: str, display: Display) -> None:
        self._ps = ps
        self._user = user
        self._display = display
        self._seen: set[str] = set()
        self._news = asyncio.Condition()
        self._listening: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Notices:
        inbox = await self._ps.notifications.inbox(self._user, unread=True)
        for item in reversed(inbox.items):
            await self._take(item)
        self._listening = asyncio.create_task(self._listen(inbox.version))
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._listening:
            self._listening.cancel()
            await asyncio.wait((self._listening,))

    async def all_of(self, ids: set[str]) -> None:
        """Wait for these, so that none is cut off by the end of the program."""
        async with self._news:
            try:
                async with asyncio.timeout(LATE):
                    await self._news.wait_for(lambda: ids <= self._seen)
            except TimeoutError:
                self._display.late(len(ids - self._seen))

    async def _listen(self, after: int) -> None:
        async for notification in self._ps.notifications.listen(self._user, after=after):
            await self._take(notification)

    async def _take(self, notification: Notification | InboxItem) -> None:
        if notification.id in self._seen:
            return
        content = notification.content
        self._display.notification(str(content.get("title")), str(content.get("body")))
        await self._ps.notifications.mark_read(self._user, [notification.id])
        async with self._news:
            self._seen.add(notification.id)
            self._news.notify_all()
