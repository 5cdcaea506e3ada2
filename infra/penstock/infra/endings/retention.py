"""Has finished aggregates archived once they are older than the rules say.

Every instance asks for it, by commands that are the same for all of them; one carries each out.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

import msgspec

from penstock.contracts.lifecycle import ARCHIVE, Archiving
from penstock.infra.endings.rules import cutoffs
from penstock.infra.event_log import JetStreamEventLog
from penstock.infra.sender import Cause, Sender
from penstock.infra.views.live_view import LiveView

log = logging.getLogger(__name__)

S = TypeVar("S")
SEGMENTS = 100  # at each look
PATIENCE = 25.0  # seconds for one segment; what takes longer goes on by itself
PAGE = 500


class Retention:
    """Has one service archive what its rules say, at each `look`.

    `states` are the service's final states, `every` the seconds between two looks.
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

    async def look(self) -> None:
        """Archive what is due now, if there are rules. Raises PenstockError: later then."""
        if self._rules:
            await self._look()

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
    """The aggregates that may be old enough, as the view tells; the log has the last word.

    `folded` waits until the view has all that the log holds.
    """

    def __init__(
        self,
        event_log: JetStreamEventLog,
        view: LiveView[S],
        finished: Callable[[S], str | None],
        folded: Callable[[], Awaitable[None]],
    ) -> None:
        self._log = event_log
        self._view = view
        self._finished = finished
        self._folded = folded

    async def __call__(self, before: dict[str, datetime]) -> AsyncIterator[str]:
        """The ids of finished aggregates whose last event is older than the latest of `before`.

        Raises Timeout: the view is far behind, and would leave some out.
        """
        if not before:
            return
        await self._folded()
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
