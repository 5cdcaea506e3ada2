"""What `ps.jobs` does with dead jobs. How many are settled at a time is for `jobs_dead`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from penstock.client import jobs_dead
from penstock.client.jobs_dead import Settled
from penstock.client.session import Session, state_of
from penstock.contracts.job_reads import DeadCount, ListDead
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import SERVICE, DiscardJob, FailureCause, RedriveJob
from penstock.contracts.jobs_bulk import DiscardJobs, RedriveJobs


class DeadJobs:
    """What `ps.jobs` does with dead ones."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def dead(
        self,
        *,
        error: str | None = None,
        name: str | None = None,
        queue: str | None = None,
        cause: FailureCause | None = None,
    ) -> AsyncIterator[JobState]:
        """Every job that failed and was not discarded, newest first; `error` is the class."""
        question = ListDead(error=error, name=name, queue=queue, cause=cause)
        return jobs_dead.dead(self._session, question)

    async def dead_counts(
        self,
        *,
        error: str | None = None,
        name: str | None = None,
        queue: str | None = None,
        cause: FailureCause | None = None,
    ) -> list[DeadCount]:
        """How many of these there are of each class of error, the most first."""
        question = ListDead(error=error, name=name, queue=queue, cause=cause)
        found, _ = await self._session.ask(SERVICE, "dead-counts", question, list[DeadCount])
        return found

    async def redrive(
        self, id: str, reason: str | None = None, *, command_id: str | None = None
    ) -> JobState:
        """Run a failed or cancelled job again, with new budgets of attempts and crashes.

        Raises NotFound, or Refused for one that is completed or of a workflow.
        """
        command = RedriveJob(reason=reason)
        return state_of(
            await self._session.command(command, id=id, command_id=command_id), JobState
        )

    async def discard(
        self, id: str, reason: str | None = None, *, command_id: str | None = None
    ) -> JobState:
        """Take a failed job off the dead ones; it stays failed. Raises NotFound, Refused."""
        command = DiscardJob(reason=reason)
        return state_of(
            await self._session.command(command, id=id, command_id=command_id), JobState
        )

    async def redrive_all(
        self,
        *,
        error: str | None = None,
        name: str | None = None,
        queue: str | None = None,
        cause: FailureCause | None = None,
        reason: str | None = None,
        told: Callable[[int], object] = lambda _: None,
    ) -> Settled:
        """Redrive every dead job that fits, however many. `told` hears now and then how many were.

        Interrupted, call it again: what is redriven is no longer dead. Raises Unavailable, Timeout.
        """
        question = ListDead(error=error, name=name, queue=queue, cause=cause)
        return await jobs_dead.settle_all(self._session, question, RedriveJobs, reason, told)

    async def discard_all(
        self,
        *,
        error: str | None = None,
        name: str | None = None,
        queue: str | None = None,
        cause: FailureCause | None = None,
        reason: str | None = None,
        told: Callable[[int], object] = lambda _: None,
    ) -> Settled:
        """Discard every dead job that fits, in the same way."""
        question = ListDead(error=error, name=name, queue=queue, cause=cause)
        return await jobs_dead.settle_all(self._session, question, DiscardJobs, reason, told)
