"""The queues as this instance of the service knows them, in memory. Never asks anybody.

So no job pays for them. What another instance was told is known here a second later at most, and
as long as the view is behind: see `queue_effects`.
"""

from __future__ import annotations

from penstock.contracts.errors import Refused
from penstock.contracts.queues import QueueState


class QueueStates:
    """Only of queues about which something was said."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, QueueState]] = {}

    def know(self, sequence: int, state: QueueState) -> None:
        """Take note of a state at the sequence of its event, unless a newer one is known."""
        known = self._known.get(state.name)
        if known is None or known[0] <= sequence:
            self._known[state.name] = sequence, state

    def state(self, queue: str) -> QueueState | None:
        """What was said about a queue, if anything was."""
        known = self._known.get(queue)
        return known[1] if known else None

    def refusal(self, queue: str) -> Refused | None:
        """Why no new job is taken into a queue, if so."""
        state = self.state(queue)
        if state is None or not state.draining:
            return None
        why = f" ({state.reason})" if state.reason else ""
        return Refused(
            f"The queue {queue!r} is drained{why} and takes no new jobs; use another one, or "
            f"resume it: `penstock queues resume {queue}`.",
            queue=queue,
        )

    def weight(self, queue: str, tenant: str) -> int:
        """The turns that a tenant gets for each one of another."""
        state = self.state(queue)
        return state.weights.get(tenant, 1) if state else 1
