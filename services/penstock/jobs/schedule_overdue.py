"""Finds schedules that stand still, since a timer was lost with its server, and sets them going.

A server that loses power may come back without what it acknowledged last. Never decides: whether a
tick is late is for the timer's own way.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from penstock.infra.repeated import Repeated
from penstock.infra.views.live_view import LiveView
from penstock.jobs import schedule_view

log = logging.getLogger(__name__)

EVERY = 300.0  # seconds between two looks
LATE = 60.0  # seconds after its next tick from which a schedule stands still


class Overdue:
    """Looks at the schedules whose next tick is long past, in the view that `model` gives.

    Several instances may look: `reconcile` may be called again for any schedule.
    """

    def __init__(
        self,
        model: Callable[[], LiveView[Any]],
        reconcile: Callable[[str], Awaitable[None]],
        *,
        late: float = LATE,
    ) -> None:
        self._model = model
        self._reconcile = reconcile
        self._late = late

    async def look(self) -> None:
        """Look once. Raises Unavailable when a timer cannot be set now."""
        _, found = await self._model().read(schedule_view.overdue, time.time() - self._late)
        for id in found:
            log.warning("%s has not ticked in time; its timer is set again", id)
            await self._reconcile(id)

    def part(self) -> Repeated:
        """The part of the service that looks again and again."""
        return Repeated("search for schedules that stand still", self.look, every=EVERY, first=LATE)
