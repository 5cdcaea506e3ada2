"""Says in the log how far a view is that has much to fold. Never folds."""

from __future__ import annotations

import logging
import time

log = logging.getLogger(__name__)

LONG = 10_000  # events; with fewer nobody has to wait
EVERY = 3.0  # seconds between two lines


class CatchUp:
    """Follows how far behind one service's view is."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._total = 0  # events that it was behind when it began; 0: nothing to tell
        self._begun = self._said = 0.0

    def note(self, lag: int) -> None:
        """The view is `lag` events behind now."""
        now = time.monotonic()
        if not self._total:
            if lag > LONG:
                self._total, self._begun, self._said = lag, now, now
                log.info("%s: the view is %s events behind", self._service, f"{lag:,}")
        elif lag == 0:
            seconds = now - self._begun
            log.info("%s: the view has caught up after %.1f s", self._service, seconds)
            self._total = 0
        elif now - self._said >= EVERY:
            self._said = now
            self._say(lag, now - self._begun)

    def _say(self, lag: int, seconds: float) -> None:
        self._total = max(self._total, lag)
        done = self._total - lag
        log.info(
            "%s: %s of %s events folded (%d%%), %s a second",
            self._service,
            f"{done:,}",
            f"{self._total:,}",
            100 * done // self._total,
            f"{done / seconds:,.0f}",
        )
