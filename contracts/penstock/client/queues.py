"""`ps.queues`: pause, drain and purge queues of jobs, and weigh their tenants. Never runs a job."""

from __future__ import annotations

import builtins

import msgspec

from penstock.client.session import Session, state_of
from penstock.contracts.errors import NotFound
from penstock.contracts.jobs import SERVICE
from penstock.contracts.queues import (
    DrainQueue,
    ListQueues,
    PauseQueue,
    PurgeQueue,
    QueueState,
    ResumeQueue,
    SetWeight,
    queue_id,
)

PURGING = 600.0  # seconds that a queue may take to be purged


class Queues:
    """Queues, by their names. Any queue can be named, also before it has a job."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def pause(
        self, name: str, reason: str | None = None, *, command_id: str | None = None
    ) -> QueueState:
        """Let no worker begin a job of the queue until it is resumed; what runs comes to its end.

        It holds for all workers once this returns, and through restarts. Jobs may be enqueued.
        """
        return await self._do(name, PauseQueue(reason=reason), command_id)

    async def resume(self, name: str, *, command_id: str | None = None) -> QueueState | None:
        """Go on: end a pause, or what `drain` began. None if nothing was ever said about it."""
        return await self._do_or_not(name, ResumeQueue(), command_id)

    async def drain(
        self, name: str, reason: str | None = None, *, command_id: str | None = None
    ) -> QueueState:
        """Take no new jobs until it is resumed: `enqueue` raises Refused. The others are worked
        off, retries too.

        Where several instances of the service run, the others know a second later.
        """
        return await self._do(name, DrainQueue(reason=reason), command_id)

    async def purge(
        self,
        name: str,
        reason: str | None = None,
        *,
        command_id: str | None = None,
        timeout: float = PURGING,
    ) -> QueueState:
        """Cancel every job that waits in the queue, delayed ones too; what runs goes on.

        Returns once it is done. Raises Timeout after `timeout` seconds: it goes on even so.
        """
        command = PurgeQueue(reason=reason)
        outcome = await self._session.command(
            command, id=queue_id(name), command_id=command_id, timeout=timeout
        )
        return state_of(outcome, QueueState)

    async def set_weight(
        self, name: str, tenant: str, weight: int, *, command_id: str | None = None
    ) -> QueueState | None:
        """Give a tenant of the queue `weight` turns, 1 to 100, for each one of another.

        For jobs with `tenant=`. None if nothing was ever said about the queue, and nothing is now.
        """
        command = SetWeight(tenant=tenant, weight=weight)
        return await self._do_or_not(name, command, command_id)

    async def get(self, name: str, *, at: str | int | None = None) -> QueueState | None:
        """What was said about the queue, now or `at` a sequence or time; None if nothing was."""
        try:
            return await self._session.get(SERVICE, queue_id(name), QueueState, at=at)
        except NotFound:
            return None

    async def list(self, *, limit: int = 1000, after: str = "") -> builtins.list[QueueState]:
        """Queues about which something was said, by name; `after` is the last one's, to page on.

        How many jobs wait in each is told by `ps.jobs.queues()`.
        """
        question = ListQueues(limit=limit, after=after)
        found, _ = await self._session.ask(
            SERVICE, "queue-states", question, builtins.list[QueueState]
        )
        return found

    async def _do(self, name: str, command: msgspec.Struct, command_id: str | None) -> QueueState:
        outcome = await self._session.command(command, id=queue_id(name), command_id=command_id)
        return state_of(outcome, QueueState)

    async def _do_or_not(
        self, name: str, command: msgspec.Struct, command_id: str | None
    ) -> QueueState | None:
        outcome = await self._session.command(command, id=queue_id(name), command_id=command_id)
        return msgspec.json.decode(outcome.data, type=QueueState | None)
