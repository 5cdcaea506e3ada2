"""Decides when a server that died is restarted, and when no more. Time arrives as a number."""

from __future__ import annotations


class Restarts:
    """At most `limit` restarts within `window` seconds, each after twice the delay before it."""

    limit = 5
    window = 60.0
    first_delay = 0.1

    def __init__(self) -> None:
        self._times: list[float] = []

    def delay(self, now: float) -> float | None:
        """Seconds to wait before a restart that is asked for at `now`, or None to give up.

        `now` is seconds of any clock that never goes back.
        """
        self._times = [time for time in self._times if now - time < self.window]
        if len(self._times) == self.limit:
            return None
        self._times.append(now)
        return float(self.first_delay * 2 ** (len(self._times) - 1))
