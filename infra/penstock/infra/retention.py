"""Has finished aggregates archived once they are older than the rules say.

Every instance asks for it, by commands that are the same for all of them; one carries each out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

import msgspec

from penstock.contracts.errors import PenstockError
from penstock.contracts.lifecycle import ARCHIVE, Archiving
from penstock.infra.event_log import JetStreamEventLog
from penstock.infra.live_view import LiveView
from penstock.infra.retention_rules import cutoffs
from penstock.infra.sender import Cause, Sender

log = logging.getLogger(__name__)

S = TypeVar("S")
SEGMENTS = 100  # at each look
PATIENCE = 25.0  # seconds for one segment; what takes longer goes on by itself
PAGE = 500


class Retention:
    """Has one service archive what its rules say, from `start` to `stop`.

    `states` are the service's final states, `every` the seconds between two looks. A `Part`.
    """

    def __init__(
        self,
        sender: Sender,
        service: str,
        rules: Mapping[str | None, timedelta],
        states: tuple[str, ...],
        *,
        every: float,
    ) -> None:
        self._sender = sender
        self._service = service
        self._rules = rules
        self._states = states
        self._every = every
        self._task: asyncio.Task[None] | None = None
        self._problem: str | None = None

    async def start(self) -> None:
        """Look at once, and then again and again."""
        if self._rules:
            self._task = asyncio.create_task(self._run(), name=f"retain-{self._service}")

    async def stop(self) -> None:
        """Ask for nothing more; what was asked for goes on."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def problem(self) -> str | None:
        """See `Part.problem`: late archiving is no reason to send nobody here."""
        return None

    async def _run(self) -> None:
        while True:
            try:
                await self._look()
            except PenstockError as error:
                log.warning("%s: nothing is archived now: %s", self._service, error)
            await asyncio.sleep(self._every)

    async def _look(self) -> None:
        turn = int(datetime.now(UTC).timestamp() // self._every)
        now = datetime.fromtimestamp(turn * self._every, UTC)
        command = ARCHIVE[self._service](before=cutoffs(self._rules, self._states, now))
        for number in range(SEGMENTS):
            name = f"archive-{turn}-{number}"
            outcome = await self._sender.send(
                command,
                id="archive",
                command_id=name,
                cause=Cause(correlationid=name, actor="retention"),
                timeout=PATIENCE,
            )
            done = msgspec.json.decode(outcome.data, type=Archiving)
            if done.aggregates:
                log.info("%s: archived %d in %s", self._service, done.aggregates, done.segment)
            if not done.more:
                return


class Candidates(Generic[S]):
    """The aggregates that may be old enough, as the view tells; the log has the last word."""

    def __init__(
        self,
        event_log: JetStreamEventLog,
        view: LiveView[S],
        finished: Callable[[S], str | None],
    ) -> None:
        self._log = event_log
        self._view = view
        self._finished = finished

    async def __call__(self, before: dict[str, datetime]) -> AsyncIterator[str]:
        """The ids of finished aggregates whose last event is older than the latest of `before`."""
        if not before:
            return
        end = await self._log.sequence_at(max(before.values()))
        after = ""
        while True:
            _, page = await self._view.read(_page, after, end)
            for id, state in page:
                if self._finished(self._view.decode(state)) in before:
                    yield id
            if len(page) < PAGE:
                return
            after = page[-1][0]


def _page(db: Any, after: str, end: int) -> list[tuple[str, bytes]]:
    return db.execute(  # type: ignore[no-any-return]
        "SELECT id, state FROM aggregate WHERE id > ? AND sequence < ? ORDER BY id LIMIT ?",
        (after, end, PAGE),
    ).fetchall()
