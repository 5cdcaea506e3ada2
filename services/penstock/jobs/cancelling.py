"""Cancels many jobs: their events in one batch, then what follows from each. Never says which."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from penstock.contracts.envelope import Envelope, unwrap
from penstock.contracts.errors import Archived, Erased, NotFound, Refused, from_problem
from penstock.contracts.jobs import CancelJob
from penstock.jobs.changed_item import Item
from penstock.jobs.dispatch import Dispatch
from penstock.jobs.effects import Effect
from penstock.jobs.together import Together

ENDED = NotFound, Refused, Archived, Erased  # they are over, or were never there


class Cancelling:
    """`telling` is what follows from a job's state for its workflow."""

    def __init__(self, together: Together, dispatch: Dispatch, telling: Effect) -> None:
        self._together = together
        self._dispatch = dispatch
        self._telling = telling

    async def cancel(self, commands: Sequence[Envelope]) -> int:
        """Carry out up to 500 commands that each cancel another job, and all for the same reason.

        The sequence of the last event, 0 for none. One that is over, or gone, stays as it is.
        Raises Unavailable or Conflict: some are cancelled then, and what follows is done once the
        same commands come again.
        """
        return await self.follow_up(await self.store(commands))

    async def store(self, commands: Sequence[Envelope]) -> list[Item]:
        """Store that they are cancelled, and leave to `follow_up` what comes of it."""
        items = [Item(command, None) for command in commands]
        if items:
            each: CancelJob = unwrap(items[0].command)
            await self._together.store(items, each)
        return items

    async def follow_up(self, items: Sequence[Item]) -> int:
        """Do what follows from what was stored, and see to those that could not go with others.

        The sequence of the last event, 0 for none.
        """
        stored = [item for item in items if item.stored]
        rest = [item for item in items if not item.stored and item.changed is None]
        jobs = [item.after for item in stored if item.after]
        if stored:
            await self._dispatch.all(jobs, stored[0].command)
        told = (self._telling(i.after, i.command) for i in stored if i.after and _is_of_workflow(i))
        await asyncio.gather(*told)
        await self._together.each_by_itself(rest)
        for item in rest:
            if item.changed is None or item.changed.problem is None:
                continue
            error = from_problem(item.changed.problem)
            if not isinstance(error, ENDED):
                raise error
        last = (item.stored or (item.changed.sequence if item.changed else 0) for item in items)
        return max(last, default=0)


def _is_of_workflow(item: Item) -> bool:
    state = item.after.state if item.after else None
    return state is not None and state.origin is not None and state.origin.workflow is not None
