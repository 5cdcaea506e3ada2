"""Schedules that an application declares beside its handlers, and how they come to be.

Never keeps time, and never removes a schedule: others may declare it still.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

import msgspec

from penstock.client.session import Session, state_of
from penstock.contracts.answers import ById
from penstock.contracts.errors import NotFound, Timeout, Unavailable
from penstock.contracts.jobs import SERVICE
from penstock.contracts.schedules import PutSchedule, ScheduleState, schedule_id

log = logging.getLogger(__name__)

WAIT = 5.0  # seconds for the jobs service to answer


class Declared(msgspec.Struct, frozen=True):
    """A schedule's name, and what puts it."""

    name: str
    command: PutSchedule

    def differs_from(self, other: Declared) -> list[str]:
        """In what, as the fields are called."""
        pairs = [(self.command, other.command), (self.command.job, other.command.job)]
        pairs.append((self.command.timing, other.command.timing))
        return [
            field
            for mine, its in pairs
            for field in mine.__struct_fields__
            if field not in ("job", "timing") and getattr(mine, field) != getattr(its, field)
        ]


async def put_all(session: Session, schedules: Iterable[Declared], *, wait: float = WAIT) -> None:
    """Have each be as it is declared; what is so already stays as it is.

    Raises InvalidMessage or TooLarge for one that cannot be, and Unavailable where no system is.
    While the jobs service does not run the commands are kept for it, after `wait` seconds.
    """
    await asyncio.gather(*(_put(session, one, wait) for one in schedules))


async def _put(session: Session, declared: Declared, wait: float) -> None:
    before, id = await _present(session, declared.name), schedule_id(declared.name)
    try:
        outcome = await session.command(declared.command, id=id, timeout=wait)
    except Timeout:
        log.warning("the schedule %r is put once the jobs service runs", declared.name)
        return
    after = state_of(outcome, ScheduleState)
    if before is not None and before.changed != after.changed:
        log.warning(
            "the schedule %r is declared otherwise here than it was put before, and is now as "
            "declared here; if another program declares it as well, give one of the two another "
            "name",
            declared.name,
        )


async def _present(session: Session, name: str) -> ScheduleState | None:
    try:
        question = ById(id=schedule_id(name), newest=True)  # another session may just have put it
        state, _ = await session.ask(SERVICE, "get", question, ScheduleState)
    except (NotFound, Unavailable):
        return None
    return None if state.deleted else state
