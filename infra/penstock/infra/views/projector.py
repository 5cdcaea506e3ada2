"""Folds a service's events into its read model, and tells who waits for them.

Resumes after the read model's checkpoint. An event that cannot be folded becomes a dead letter
and holds back its own aggregate, not the others. Never writes to the event log.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Generic, ParamSpec, TypeVar

import apsw

from penstock.contracts.envelope import decode, unwrap
from penstock.contracts.errors import PenstockError, Timeout
from penstock.infra.bus import Bus
from penstock.infra.dead_letters.burying import told
from penstock.infra.deciding.aggregate import Evolve, Tombstone
from penstock.infra.event_log import JetStreamEventLog
from penstock.infra.follower import Followed, Follower
from penstock.infra.telemetry import FOLDED, LAG, SEQUENCE
from penstock.infra.views.catch_up import CatchUp
from penstock.infra.views.held import Held, aggregate_of
from penstock.infra.views.holding import Holding
from penstock.infra.views.live_view import LiveView
from penstock.infra.views.pace import Pace
from penstock.infra.views.read_model import ReadModel
from penstock.infra.views.view import Ended, Folded

log = logging.getLogger(__name__)

S = TypeVar("S")
T = TypeVar("T")
P = ParamSpec("P")
SOON = 0.5  # seconds that an answer waits for what is to be folded
END = 30.0  # seconds that whoever needs all of the log waits for it to be folded
RETRY = 1.0  # seconds until folding is tried again after the disk or the bus failed
# What SQLite says about what it was given; all else that it says is about the disk.
EVENTS_FAULT = (apsw.ConstraintError, apsw.MismatchError, apsw.TooBigError)
Listener = Callable[[Sequence[Folded[S] | Ended]], None]


class Projector(Generic[S]):
    """Keeps one read model in step with one event log, from `start` to `stop`.

    `lag` is how many events the log has that the view has not; None until that is known. One that
    folds `aside`, of the same log as another, is no part of the service's metrics.
    """

    def __init__(
        self,
        bus: Bus,
        event_log: JetStreamEventLog,
        model: ReadModel[S] | LiveView[S],
        evolve: Evolve[S],
        *,
        aside: bool = False,
    ) -> None:
        self.sequence = model.checkpoint
        self.lag: int | None = None
        self.failure: Exception | None = None
        self.follower: Follower | None = None
        self._log = event_log
        self._model = model
        self._evolve = evolve
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"fold-{event_log.service}")
        self._progress: list[tuple[int, asyncio.Future[None]]] = []
        self._watchers: defaultdict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self._listeners: list[Listener[S]] = []
        self._task: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._pace = Pace()
        self._gathering = False
        self._held = Held(model.writer, event_log.service, counted=not aside)
        self.holding = Holding(
            bus, event_log, self._held, self._thread, self._turn, self._fold_behind
        )
        self._catch_up = CatchUp(event_log.service)

    def start(self) -> None:
        """Begin folding behind the checkpoint."""
        self.holding.start()
        self._task = asyncio.create_task(self._run(), name=f"project-{self._log.service}")

    async def stop(self) -> None:
        """Stop after the batch in hand."""
        await self.holding.stop()
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._thread.shutdown()

    def listen(self, listener: Listener[S]) -> None:
        """Call `listener` after each commit with what was folded, in order."""
        self._listeners.append(listener)

    async def reached(self, sequence: int, timeout: float) -> None:
        """Wait until the view has folded `sequence`. Raises Timeout."""
        if self.sequence >= sequence:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (sequence, future)
        self._progress.append(entry)
        self._pace.hurry()
        try:
            await asyncio.wait_for(future, timeout)
        except TimeoutError:
            raise Timeout(
                f"The view stands at {self.sequence} and did not reach {sequence} in time; "
                "ask again, or without min_seq.",
                sequence=self.sequence,
            ) from None
        finally:
            if entry in self._progress:
                self._progress.remove(entry)

    async def reach_end(self) -> None:
        """Wait until the view has folded all that its log holds now: for those who act on whatever
        they find there, so that nothing is missed. Raises Timeout or Unavailable.
        """
        await self.reached(await self._log.last_sequence(), END)

    async def fold_what_came(self) -> None:
        """Let nothing gather that is here already: somebody is about to be answered."""
        if not self._gathering or self.follower is None:
            return
        try:
            await self.reached(self.follower.newest, SOON)
        except Timeout:
            return  # there is too much of it: it is answered as the view stands

    @contextmanager
    def watching(self, id: str) -> Iterator[asyncio.Future[None]]:
        """A future that is done at the next news of one aggregate; enter before you read."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchers[id].add(future)
        self._pace.hurry()
        try:
            yield future
        finally:
            self._watchers[id].discard(future)
            if not self._watchers[id]:
                del self._watchers[id]

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[int]:
        """Nothing is folded while the block runs; the sequence that the model stands at."""
        async with self._turn:
            yield self._model.checkpoint

    async def go_over(self) -> None:
        """The model is another one now, see `LiveView.replace`; to be called while `paused`."""
        await self._in_thread(self._held.move, self._model.writer)
        self.holding.bury()

    async def fold(self, batch: list[Followed]) -> list[Folded[S] | Ended]:
        """Fold a batch into the model and tell nobody; what was folded, and not held back.

        Raises apsw.Error if it cannot be written.
        """
        return await self._in_thread(self._fold, batch)

    async def _in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        call = partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def _run(self) -> None:
        while True:
            try:
                # Part of a batch may have been committed before it failed.
                self.sequence = await self._in_thread(self._checkpoint)
                async with self._log.follower(after=self.sequence) as self.follower:
                    await self._follow(self.follower)
            except (apsw.Error, PenstockError) as error:
                self.failure = error
                log.exception("%s: folding failed and is tried again", self._log.service)
                await asyncio.sleep(RETRY)

    def _checkpoint(self) -> int:
        return self._model.checkpoint

    async def _follow(self, follower: Follower) -> None:
        self._behind(await follower.open())
        while True:
            batch = await self._gathered(follower)
            async with self._turn:
                with self._pace.folding():
                    folded = await self.fold(batch)
                self.holding.bury()
                self._advance(batch[-1])
                self._tell(folded)

    async def _gathered(self, follower: Follower) -> list[Followed]:
        """What is to be folded next."""
        self._gathering = True
        try:
            await follower.news()
            await self._pace.gather(
                behind=self.lag or 0,
                awaited=any(sequence > self.sequence for sequence, _ in self._progress),
                watched=bool(self._watchers or self._listeners),
            )
        finally:
            self._gathering = False
        return await follower.batch()

    async def _fold_behind(self, batch: list[Followed]) -> None:
        """Fold events that were held back, behind the checkpoint."""
        folded = await self.fold(batch)
        self.holding.bury()
        self._tell(folded)

    def _fold(self, batch: list[Followed]) -> list[Folded[S] | Ended]:
        """Fold a batch in one transaction; if that fails, one by one to find what fails."""
        free = self._held.free(batch)
        try:
            folded = self._evolved(free)
            self._model.write(folded, batch[-1].sequence)
        except Exception as error:
            disk = isinstance(error, apsw.Error) and not isinstance(error, EVENTS_FAULT)
            if disk or not free:
                raise
            if len(free) > 1:
                return [one for message in batch for one in self._fold([message])]
            self._hold(free[0], error, batch[-1].sequence)
            return []
        self._held.folded(free)
        return folded

    def _hold(self, message: Followed, error: Exception, sequence: int) -> None:
        service, id = self._log.service, aggregate_of(message)
        log.error("%s: %r is held at %s: %s", service, id, message.sequence, error)
        with self._model.writer:
            self._held.hold(message, *told(error))
            self._model.write((), sequence)
        self._held.remember(id)

    def _evolved(self, batch: list[Followed]) -> list[Folded[S] | Ended]:
        events = [decode(message.data) for message in batch]
        states: dict[str, S | None] = {}
        states.update(self._model.states({event.subject for event in events if event.version > 1}))
        folded: list[Folded[S] | Ended] = []
        for message, event in zip(batch, events, strict=True):
            data = unwrap(event)
            id = event.subject
            if isinstance(data, Tombstone):
                states[id] = None
                folded.append(Ended(message.sequence, event, data))
                continue
            state = states[id] = self._evolve(states.get(id), data, event)
            folded.append(Folded(message.sequence, event, data, state))
        return folded

    def _advance(self, last: Followed) -> None:
        service = self._log.service
        self.sequence, self.failure = last.sequence, None
        self._behind(last.pending)
        SEQUENCE.labels(service).set(self.sequence)

    def _behind(self, lag: int) -> None:
        self.lag = lag
        self._catch_up.note(lag)
        LAG.labels(self._log.service).set(lag)

    def _tell(self, folded: Sequence[Folded[S] | Ended]) -> None:
        FOLDED.labels(self._log.service).inc(len(folded))
        for sequence, future in self._progress:
            if sequence <= self.sequence and not future.done():
                future.set_result(None)
        for id in {f.event.subject for f in folded} if self._watchers else ():
            for future in self._watchers.get(id, ()):
                if not future.done():
                    future.set_result(None)
        for listener in self._listeners:
            listener(folded)
