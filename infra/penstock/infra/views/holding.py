"""What happens around the aggregates that a view holds: their dead letters, and their release.

The hold is committed first and its letter stored after: a crash between the two leaves a hold
without a letter, which gets it at the next start. Never decides what is held: see `held`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, TypeVar

import apsw

from penstock.contracts.control import Release, StillHeld
from penstock.contracts.dead import DeadLetter
from penstock.contracts.errors import PenstockError, Unavailable
from penstock.infra.bus import Bus, StreamError
from penstock.infra.control import Step
from penstock.infra.dead_letters.burying import store
from penstock.infra.event_log import READ_BATCH, READ_BYTES, JetStreamEventLog
from penstock.infra.follower import Followed
from penstock.infra.views.held import Held, Hold, find
from penstock.infra.views.read_model import checkpoint, revision

log = logging.getLogger(__name__)

T = TypeVar("T")
AT_START = 1000  # held aggregates that a start tries to release
AT_ONCE = 100  # letters stored in one go
NO_MESSAGE = 10037
RETRY = 1.0  # seconds until storing letters is tried again

Fold = Callable[[list[Followed]], Awaitable[None]]


class Holding:
    """The held aggregates of one projector, which gives its thread and `fold`.

    `turn` is held by whoever folds: a release and a batch of news never mix.
    """

    def __init__(
        self,
        bus: Bus,
        event_log: JetStreamEventLog,
        held: Held,
        thread: ThreadPoolExecutor,
        turn: asyncio.Lock,
        fold: Fold,
    ) -> None:
        self._bus = bus
        self._log = event_log
        self._held = held
        self._thread = thread
        self._turn = turn
        self._fold = fold
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Try what is held, since the code may be another now, and bury what has no letter."""
        self._news.set()
        self._task = asyncio.create_task(self._run(), name=f"held-{self._log.service}")

    async def stop(self) -> None:
        """Stop; what has no letter yet gets it at the next start."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def bury(self) -> None:
        """Store the letters of what was held since, if anything was."""
        if self._held.news:
            self._news.set()

    async def release(self, id: str) -> Hold | None:
        """Fold what was held back of one aggregate; why it stays held, or None if it is free.

        Raises Unavailable when its events cannot be read, apsw.Error when the disk fails.
        """
        async with self._turn:
            if id not in self._held.ids:
                return None
            self._held.trying(id)
            try:
                await self._catch_up(id)
            finally:
                self._held.trying(None)
            return await self._call(lambda: find(self._held.db, id))

    async def release_all(self, asked: Release) -> AsyncIterator[Step]:
        """`release` of these aggregates, for an operator; its result is a list of StillHeld."""
        left = []
        for done, id in enumerate(asked.ids):
            yield Step(done, len(asked.ids))
            if hold := await self.release(id):
                left.append(StillHeld(id=id, sequence=hold.sequence, reason=hold.reason))
        yield Step(len(asked.ids), len(asked.ids), result=left)

    async def _catch_up(self, id: str) -> None:
        after = await self._call(lambda: revision(self._held.db, id))
        while page := await self._page(id, after):
            await self._fold(page)
            if not self._held.is_free(id):
                return  # one of them failed
            after = page[-1].sequence
        await self._check_end(id, after)
        await self._call(lambda: self._held.let_go(id))

    async def _check_end(self, id: str, after: int) -> None:
        """Raise Unavailable if a replica that lags behind was asked: it hides the last events."""
        last = await self._stored({"last_by_subj": self._subject(id)})
        if after < last <= await self._call(lambda: checkpoint(self._held.db)):
            raise Unavailable(f"The replica that was asked for events of {id!r} lags behind.")

    async def _stored(self, request: dict[str, Any]) -> int:
        """The sequence of a message as the stream's leader knows it, or 0."""
        try:
            found = await self._bus.api(f"STREAM.MSG.GET.{self._log.stream}", request)
        except StreamError as error:
            if error.err_code != NO_MESSAGE:
                raise
            return 0
        return int(found["message"]["seq"])

    def _subject(self, id: str) -> str:
        return self._bus.subjects.event(self._log.service, id)

    async def _page(self, id: str, after: int) -> list[Followed]:
        """Events of one aggregate that the view has passed by; later ones come by themselves."""
        request = {
            "seq": after + 1,
            "next_by_subj": self._subject(id),
            "batch": READ_BATCH,
            "max_bytes": READ_BYTES,
        }
        found = await self._bus.direct_get(self._log.stream, request)
        passed = await self._call(lambda: checkpoint(self._held.db))
        return [Followed(m.sequence, m.subject, m.data, 0) for m in found if m.sequence <= passed]

    async def _run(self) -> None:
        for id in sorted(self._held.ids)[:AT_START]:
            await self._try(id)
        while True:
            await self._news.wait()
            self._news.clear()
            self._held.news = False
            try:
                await self._bury_all()
            except (PenstockError, apsw.Error) as error:
                log.warning("%s: dead letters wait: %s", self._log.service, error)
                self._news.set()
                await asyncio.sleep(RETRY)

    async def _try(self, id: str) -> None:
        try:
            hold = await self.release(id)
        except Exception as error:  # noqa: BLE001 - it stays held, and can be asked for
            log.warning("%s: %r cannot be tried now: %s", self._log.service, id, error)
        else:
            what = f"stays held at {hold.sequence}: {hold.reason.detail}" if hold else "is free"
            log.warning("%s: %r %s", self._log.service, id, what)

    async def _bury_all(self) -> None:
        while holds := await self._call(lambda: self._held.not_buried(AT_ONCE)):
            for hold in holds:
                await self._bury(hold)

    async def _bury(self, hold: Hold) -> None:
        found = await self._bus.direct_get(self._log.stream, {"seq": hold.sequence})
        if not found and await self._stored({"seq": hold.sequence}):
            raise Unavailable("The replica that was asked for the event lags behind.")
        for message in found:  # none if it was erased meanwhile: then there is nothing to tell
            letter = DeadLetter(
                service=self._log.service,
                kind="event",
                subject=message.subject,
                reason=hold.reason,
                time=datetime.now(UTC),
                sequence=hold.sequence,
                trace=hold.trace,
            )
            await store(self._bus, letter, message.data)
        await self._call(lambda: self._held.buried(hold))

    async def _call(self, function: Callable[[], T]) -> T:
        """Run `function` in the projector's thread, which owns the view's connection."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)
