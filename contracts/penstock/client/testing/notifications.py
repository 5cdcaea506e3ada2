"""`ps.notifications` in memory: sent, kept in inboxes and marked as read; nobody listens."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from penstock.client.notifications import Notifications
from penstock.client.testing.absent import absent
from penstock.contracts.notifications import Notification


class MemoryNotifications(Notifications):
    """See Notifications; `listen` is not there."""

    def listen(self, *_: Any, **__: Any) -> AsyncGenerator[Notification, None]:
        """Raises NotInMemory."""
        raise absent("ps.notifications.listen; `assert_notified` tells what was sent")
