"""Folds a service's events into its read model, and tells who waits for them.

Resumes after the read model's checkpoint. An event that cannot be folded becomes a dead letter
and does not hold back the others. Never writes to the event log.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, TypeVar

import apsw

from penstock.contracts.envelope import decode, unwrap
from penstock.contracts.errors import PenstockError, Timeout
from penstock.infra.aggregate import Evolve, Tombstone
from penstock.infra.bus import Bus
from penstock.infra.dead_letters import bury
from penstock.infra.event_log import JetStreamEventLog
from penstock.infra.follower import Followed, Follower
from penstock.infra.read_model import Ended, Folded, ReadModel
from penstock.infra.telemetry import FOLDED, LAG, SEQUENCE

log = logging.getLogger(__name__)

S = TypeVar("S")
RETRY = 1.0  # seconds until folding is tried again after the disk or the bus failed
Listener = Callable[[Sequence[Folded[S] | Ended]], None]


class Projector(Generic[S]):
    """Keeps one read model in step with one event log, from `start` to `stop`."""

    def __init__(
        self, bus: Bus, event_log: JetStreamEventLog, model: ReadModel[S], evolve: Evolve[S]
    ) -> None:
        self.sequence = model.checkpoint
        self.lag = 0
        self.failure: Exception | None = None
        self._bus = bus
        self._log = event_log
        self._model = model
        self._evolve = evolve
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"fold-{event_log.service}")
        self._progress: list[tuple[int, asyncio.Future[None]]] = []
        self._watchers: defaultdict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self._listeners: list[Listener[S]] = []
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin folding behind the checkpoint."""
        self._task = asyncio.create_task(self._run(), name=f"project-{self._log.service}")

    async def stop(self) -> None:
        """Stop after the batch in hand."""
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

    @contextmanager
    def watching(self, id: str) -> Iterator[asyncio.Future[None]]:
        """A future that is done at the next news of one aggregate; enter before you read."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchers[id].add(future)
        try:
            yield future
        finally:
            self._watchers[id].discard(future)
            if not self._watchers[id]:
                del self._watchers[id]

    async def _run(self) -> None:
        while True:
            try:
                async with self._log.follower(after=self.sequence) as follower:
                    await self._follow(follower)
            except (apsw.Error, PenstockError) as error:
                self.failure = error
                log.exception("%s: folding failed and is tried again", self._log.service)
                await asyncio.sleep(RETRY)

    async def _follow(self, follower: Follower) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = await follower.batch()
            folded, failed = await loop.run_in_executor(self._thread, self._fold, batch)
            for message, error in failed:
                await self._bury(message, error)
            if failed:
                await loop.run_in_executor(self._thread, self._model.write, (), batch[-1].sequence)
            self._tell(folded, batch)

    def _fold(
        self, batch: list[Followed]
    ) -> tuple[list[Folded[S] | Ended], list[tuple[Followed, Exception]]]:
        """Fold a batch in one transaction; if that fails, one by one to find what fails."""
        try:
            folded = self._evolved(batch)
            self._model.write(folded, batch[-1].sequence)
        except apsw.Error:
            raise  # the disk's fault, not the event's
        except Exception as error:  # noqa: BLE001 - becomes a dead letter
            if len(batch) == 1:
                return [], [(batch[0], error)]
        else:
            return folded, []
        done: list[Folded[S] | Ended] = []
        failed: list[tuple[Followed, Exception]] = []
        for message in batch:
            one, errors = self._fold([message])
            done += one
            failed += errors
        return done, failed

    def _evolved(self, batch: list[Followed]) -> list[Folded[S] | Ended]:
        states: dict[str, S | None] = {}
        folded: list[Folded[S] | Ended] = []
        for message in batch:
            event = decode(message.data)
            data = unwrap(event)
            id = event.subject
            if isinstance(data, Tombstone):
                states[id] = None
                folded.append(Ended(message.sequence, event, data))
                continue
            before = states[id] if id in states else self._model.state(id)
            state = states[id] = self._evolve(before, data, event)
            folded.append(Folded(message.sequence, event, data, state))
        return folded

    async def _bury(self, message: Followed, error: Exception) -> None:
        log.error("%s: event %s cannot be folded: %s", self._log.service, message.sequence, error)
        await bury(
            self._bus,
            self._log.service,
            subject=message.subject,
            body=message.data,
            error=error,
            sequence=message.sequence,
        )

    def _tell(self, folded: Sequence[Folded[S] | Ended], batch: list[Followed]) -> None:
        service = self._log.service
        self.sequence, self.lag = batch[-1].sequence, batch[-1].pending
        self.failure = None
        FOLDED.labels(service).inc(len(folded))
        SEQUENCE.labels(service).set(self.sequence)
        LAG.labels(service).set(self.lag)
        for sequence, future in self._progress:
            if sequence <= self.sequence and not future.done():
                future.set_result(None)
        for id in {f.event.subject for f in folded} if self._watchers else ():
            for future in self._watchers.get(id, ()):
                if not future.done():
                    future.set_result(None)
        for listener in self._listeners:
            listener(folded)
