"""`ps.progress`: say and see how far work is. Never folds events itself: the service does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec

from penstock.client.session import Session, state_of
from penstock.contracts.answers import HistoryEntry
from penstock.contracts.progress import (
    SERVICE,
    AdvanceStage,
    CancelProgress,
    CleanupProgress,
    CompleteProgress,
    CreateProgress,
    FailProgress,
    ListProgress,
    ProgressState,
    State,
    UpdateProgress,
)


class Progress:
    """Progress of things that take long, by an id of the application's own."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def create(
        self,
        id: str,
        *,
        stages: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        command_id: str | None = None,
    ) -> ProgressState:
        """Begin to track `id`. Creating it again in the same form changes nothing.

        Raises Refused if it exists with other stages or metadata.
        """
        command = CreateProgress(stages=tuple(stages), metadata=dict(metadata or {}))
        return await self._do(id, command, command_id)

    async def update(
        self,
        id: str,
        percent: float,
        *,
        stage: str | None = None,
        message: str | None = None,
        command_id: str | None = None,
    ) -> ProgressState:
        """Say how far the whole is: `percent` from 0 to 100, absolute, so repeating is harmless.

        `stage` enters that stage. Raises NotFound, Refused once it is over, InvalidMessage.
        """
        command = UpdateProgress(percent=percent, stage=stage, message=message)
        return await self._do(id, command, command_id)

    async def advance_stage(
        self, id: str, stage: str | None = None, *, command_id: str | None = None
    ) -> ProgressState:
        """Enter the next stage, or the named one. Raises Refused after the last."""
        return await self._do(id, AdvanceStage(stage=stage), command_id)

    async def complete(
        self, id: str, message: str | None = None, *, command_id: str | None = None
    ) -> ProgressState:
        """The work is done: 100 %. Saying it twice changes nothing."""
        return await self._do(id, CompleteProgress(message=message), command_id)

    async def fail(self, id: str, error: str, *, command_id: str | None = None) -> ProgressState:
        """The work failed, for the reason `error`."""
        return await self._do(id, FailProgress(error=error), command_id)

    async def cancel(
        self, id: str, reason: str | None = None, *, command_id: str | None = None
    ) -> ProgressState:
        """The work was given up."""
        return await self._do(id, CancelProgress(reason=reason), command_id)

    async def cleanup(self, id: str, *, command_id: str | None = None) -> None:
        """Take it off the lists; its history stays."""
        await self._do(id, CleanupProgress(), command_id)

    async def get(self, id: str, *, at: str | int | None = None) -> ProgressState:
        """Its state now, or as it was `at` a sequence or time. Raises NotFound."""
        return await self._session.get(SERVICE, id, ProgressState, at=at)

    async def history(self, id: str) -> list[HistoryEntry]:
        """Every event: what, who, why, when. Raises NotFound."""
        return await self._session.history(SERVICE, id)

    async def watch(self, id: str) -> AsyncIterator[ProgressState]:
        """The present state and each newer one, to the end of the work.

        Waits for a progress that is not there yet, and through restarts of the service.
        """
        async for state in self._session.watch(SERVICE, id, ProgressState):
            yield state
            if state.is_over:
                return

    async def list(
        self, *, state: State | None = None, limit: int = 100, before: str | None = None
    ) -> list[ProgressState]:
        """Progresses by state, newest first; `before` is the last one's `created`, to page on."""
        question = ListProgress(state=state, limit=limit, before=before)
        found, _ = await self._session.ask(SERVICE, "list", question, list[ProgressState])
        return found

    async def _do(self, id: str, command: msgspec.Struct, command_id: str | None) -> ProgressState:
        outcome = await self._session.command(command, id=id, command_id=command_id)
        return state_of(outcome, ProgressState)
