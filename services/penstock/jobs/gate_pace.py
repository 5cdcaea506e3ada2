"""How many jobs of a tenant workers are offered at a time, by weight: as few as keep them busy.

A window is small while workers are what is scarce, so that another tenant's job is not long behind
it. Where nearly all of it has begun before it is filled again, workers wait for us: it grows. Known
to this instance alone, and never stored.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from penstock.jobs.gate import WINDOW, Gate, Weight

MOST = 8 * WINDOW  # for each turn
QUEUES = 1_000
IDLE = 5.0  # seconds after which a window is small again
SPAN = 0.5  # seconds in which half of a window was always left, after which it is halved


class _Queue:
    __slots__ = ("at", "capacity", "drained", "gates", "left", "unit")

    def __init__(self) -> None:
        self.at = self.drained = 0.0
        self.left = self.capacity = 0
        self.unit = WINDOW
        self.gates: dict[str, str] = {}  # the tenant of each that was filled lately


class Pace:
    """`weight` tells the turns that a tenant gets for each one of another."""

    def __init__(self, weight: Weight, clock: Callable[[], float] = time.monotonic) -> None:
        self._weight = weight
        self._clock = clock
        self._queues: OrderedDict[str, _Queue] = OrderedDict()

    def window(self, queue: str, tenant: str) -> int:
        """The jobs of the tenant that may wait for workers."""
        known = self._queues.get(queue)
        is_idle = known is None or self._clock() - known.at > IDLE
        unit = WINDOW if known is None or is_idle else known.unit
        return unit * self._weight(queue, tenant)

    def filled(self, queue: str, tenant: str, gate: Gate, left: int) -> None:
        """The window of a tenant is filled again, of which `left` had not begun."""
        known = self._queues.get(queue)
        if known is None:
            known = self._queues[queue] = _Queue()
            if len(self._queues) > QUEUES:
                self._queues.popitem(last=False)
        known.left += left
        known.capacity += gate.capacity
        known.gates[gate.id] = tenant

    def adapt(self) -> list[Gate]:
        """A round is over: change the windows of those queues whose were filled again.

        Those that are wider now: to be filled together, or the tenants' shares would differ.
        """
        now, wider = self._clock(), list[Gate]()
        for queue, known in self._queues.items():
            if not known.capacity:
                continue
            if known.left * 4 <= known.capacity:
                known.drained = now
                if known.unit < MOST:
                    known.unit *= 2
                    wider += self._gates(queue, known)
            elif known.left * 2 <= known.capacity:
                known.drained = now
            elif now - known.drained > SPAN:
                known.unit, known.drained = max(known.unit // 2, WINDOW), now
            known.left = known.capacity = 0
            known.at = now
        return wider

    def _gates(self, queue: str, known: _Queue) -> list[Gate]:
        found = [
            Gate(id, known.unit * self._weight(queue, tenant), "start")
            for id, tenant in known.gates.items()
        ]
        known.gates.clear()
        return found
