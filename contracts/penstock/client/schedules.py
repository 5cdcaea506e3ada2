"""`ps.schedules`: have jobs enqueued at their times, again and again. Never keeps time itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from penstock.client.schedule_terms import put_command, zoned
from penstock.client.session import Session, state_of
from penstock.contracts.answers import HistoryEntry
from penstock.contracts.jobs import SERVICE, Backoff, Rules
from penstock.contracts.schedules import (
    DeleteSchedule,
    ListSchedules,
    Missed,
    Overlap,
    PauseSchedule,
    ResumeSchedule,
    ScheduleState,
    ShownSchedule,
    ShowSchedule,
    TriggerSchedule,
    schedule_id,
)


class Schedules:
    """Schedules, by their names."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def put(
        self,
        name: str,
        job: str,
        payload: Mapping[str, Any] | None = None,
        *,
        cron: str | None = None,
        every: float | timedelta | None = None,
        timezone: str = "UTC",
        start: datetime | None = None,
        end: datetime | None = None,
        jitter: float | timedelta = 0,
        missed: Missed = "latest",
        most: int = 100,
        overlap: Overlap = "allow",
        queue: str = "default",
        priority: int = 5,
        max_attempts: int = 3,
        backoff: Backoff | None = None,
        tags: Sequence[str] = (),
        rules: Rules | None = None,
        command_id: str | None = None,
    ) -> ScheduleState:
        """Have the handler `job` run with `payload` at the times that `cron` or `every` tell.

        `cron` is such as "0 9 * * 1-5", read in `timezone`, or "@daily", or "@every 10m"; `every`
        is in whole seconds. `start` and `end` bound the times. The job of a tick waits for up to
        `jitter` seconds more, always the same for the same tick.
        Ticks that were missed, since no service ran, are left out ("skip"), or the "latest" is made
        up for, or "all", at most the `most` last ones. With `overlap="skip"` a tick passes while
        the last job is not over. The rest is as for `ps.jobs.enqueue`.
        The same again changes nothing; other terms take the place of those that were, and a paused
        schedule stays paused.
        Raises InvalidMessage with what is wrong and what would be right, TooLarge.
        """
        command = put_command(
            job,
            payload,
            cron=cron,
            every=every,
            timezone=timezone,
            start=start,
            end=end,
            jitter=jitter,
            missed=missed,
            most=most,
            overlap=overlap,
            queue=queue,
            priority=priority,
            max_attempts=max_attempts,
            backoff=backoff,
            tags=tags,
            rules=rules,
        )
        return await self._do(name, command, command_id)

    async def pause(
        self, name: str, reason: str | None = None, *, command_id: str | None = None
    ) -> ScheduleState:
        """Let no tick run until it is resumed. Raises NotFound."""
        return await self._do(name, PauseSchedule(reason=reason), command_id)

    async def resume(self, name: str, *, command_id: str | None = None) -> ScheduleState:
        """Go on with the next tick; those meanwhile are not made up for. Raises NotFound."""
        return await self._do(name, ResumeSchedule(), command_id)

    async def trigger(self, name: str, *, command_id: str | None = None) -> str:
        """Run the job now, also of a paused schedule; the job's id. Raises NotFound.

        The same `command_id` again gives the same job.
        """
        state = await self._do(name, TriggerSchedule(), command_id)
        assert state.last_job is not None
        return state.last_job

    async def delete(
        self, name: str, reason: str | None = None, *, command_id: str | None = None
    ) -> None:
        """Let no tick run any more. Raises NotFound."""
        await self._do(name, DeleteSchedule(reason=reason), command_id)

    async def get(self, name: str, *, at: str | int | None = None) -> ScheduleState:
        """The schedule now, or as it was `at` a sequence or time. Raises NotFound."""
        return await self._session.get(SERVICE, schedule_id(name), ScheduleState, at=at)

    async def list(
        self, *, paused: bool | None = None, limit: int = 100, after: str = ""
    ) -> list[ScheduleState]:
        """Schedules by name; `after` is the last one's name, to page on."""
        question = ListSchedules(paused=paused, limit=limit, after=after)
        found, _ = await self._session.ask(SERVICE, "schedules", question, list[ScheduleState])
        return found

    async def next_runs(
        self, name: str, n: int = 5, *, after: datetime | None = None
    ) -> Sequence[datetime]:
        """The next `n` ticks, in UTC, as if it were not paused. Raises NotFound."""
        question = ShowSchedule(name=name, next=n, after=zoned(after, "after"))
        shown, _ = await self._session.ask(SERVICE, "schedule", question, ShownSchedule)
        return shown.next_runs

    async def watch(self, name: str) -> AsyncIterator[ScheduleState]:
        """The present state and each newer one, for ever."""
        async for state in self._session.watch(SERVICE, schedule_id(name), ScheduleState):
            yield state

    async def history(self, name: str) -> Sequence[HistoryEntry]:
        """Every event: what, who, why, when. Raises NotFound."""
        return await self._session.history(SERVICE, schedule_id(name))

    async def _do(
        self, name: str, command: msgspec.Struct, command_id: str | None
    ) -> ScheduleState:
        outcome = await self._session.command(command, id=schedule_id(name), command_id=command_id)
        return state_of(outcome, ScheduleState)
