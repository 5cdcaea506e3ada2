"""Whether it is an event's turn: the one before it, of the same aggregate, is done with.

For those who work off events one by one, and share them between instances. What this instance has
done it knows; of the others it knows the consumer's acknowledgement floor. Never handles an event.
"""

from __future__ import annotations

from collections import OrderedDict
from time import monotonic

from penstock.infra.bus import Bus

LOOK = 0.05  # seconds for which the acknowledgement floor is taken for the present one
REMEMBERED = 10_000  # aggregates of which the last event done here is known


class EventOrder:
    """The order of one durable consumer's events within each subject."""

    def __init__(self, bus: Bus, stream: str, consumer: str) -> None:
        self._bus = bus
        self._stream = stream
        self._consumer = consumer
        self._done: OrderedDict[str, int] = OrderedDict()
        self._failures: OrderedDict[int, int] = OrderedDict()
        self._floor = 0
        self._looked = 0.0

    def done(self, subject: str, sequence: int) -> None:
        """The event at `sequence` is done with: handled, or a dead letter."""
        self._failures.pop(sequence, None)
        self._done[subject] = max(sequence, self._done.get(subject, 0))
        self._done.move_to_end(subject)
        if len(self._done) > REMEMBERED:
            self._done.popitem(last=False)

    def failed(self, sequence: int) -> int:
        """Work on the event at `sequence` failed here; how often it now has.

        Deliveries do not tell: an event that waits for its turn is delivered again and again.
        """
        self._failures[sequence] = self._failures.get(sequence, 0) + 1
        if len(self._failures) > REMEMBERED:
            self._failures.popitem(last=False)
        return self._failures.get(sequence, 1)

    async def before(self, subject: str, sequence: int) -> int:
        """The event of `subject` before the one at `sequence`, by its sequence; 0 for none."""
        request = {"multi_last": [subject], "up_to_seq": sequence - 1}
        found = await self._bus.direct_get(self._stream, request) if sequence > 1 else []
        return found[0].sequence if found else 0

    async def is_done(self, subject: str, sequence: int) -> bool:
        """Whether the event of `subject` at `sequence` is done with, and those before it.

        One that another instance has done is known to be once every earlier event, of whichever
        aggregate, is done with too. Raises StreamError or Unavailable.
        """
        if sequence <= self._done.get(subject, 0):
            return True
        if sequence > self._floor and self._looked + LOOK < monotonic():
            self._looked = monotonic()
            info = await self._bus.api(f"CONSUMER.INFO.{self._stream}.{self._consumer}")
            self._floor = int(info["ack_floor"]["stream_seq"])
        return sequence <= self._floor
