"""The aggregates of one service: in memory, by their snapshots, by their events. Never decides.

What is in memory may be behind the log; `present` makes it good against a head that was just read,
and never goes back behind what was known before.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Generic, TypeVar

from penstock.contracts.envelope import Envelope, unwrap
from penstock.contracts.errors import Conflict
from penstock.infra.deciding.aggregate import Aggregate, Evolve, Folder, Mark, Tombstone
from penstock.infra.deciding.snapshots import Snapshots
from penstock.infra.event_log import EventLog, Loaded, Recorded

S = TypeVar("S")
CACHED = 20_000


class Aggregates(Generic[S]):
    """Loads and remembers; `cached` is how many are kept in memory."""

    def __init__(
        self,
        log: EventLog,
        evolve: Evolve[S],
        *,
        snapshots: Snapshots[S] | None = None,
        cached: int = CACHED,
    ) -> None:
        self._log = log
        self._folder = Folder(evolve)
        self._snapshots = snapshots
        self._cached = cached
        self._cache: OrderedDict[str, Aggregate[S]] = OrderedDict()

    async def load(self, id: str) -> Aggregate[S]:
        """The aggregate as its events tell it now, past any memory."""
        base = await self._snapshots.load(id) if self._snapshots else None
        if base is None or base.last is None:
            loaded = await self._log.load(id)
            return self._kept(self.fold(base or Aggregate(id), loaded.events))
        return self._kept(await self._behind(base, base.last))

    async def present(self, id: str, last: Recorded | None) -> Aggregate[S]:
        """The aggregate at its last event `last`, None for none, as just read.

        Raises Conflict if more is known here than `last`: somebody was quicker, or a replica of
        the log is behind.
        """
        known = self._recalled(id)
        if known is None:
            new = last is None or last.event.version == 1
            known = Aggregate[S](id) if new else await self.load(id)
        sequence = last.sequence if last else 0
        if known.sequence > sequence:
            raise Conflict(f"{id!r} was changed meanwhile; look again.")
        if last is not None and known.sequence < sequence:
            known = self.fold(known, await self._since(known, last))
        self.remember(known)
        return known

    async def whole(self, id: str) -> Loaded:
        """Every event that the log holds of the aggregate."""
        return await self._log.load(id)

    def fold(self, aggregate: Aggregate[S], records: Sequence[Recorded]) -> Aggregate[S]:
        """See `Folder.fold`."""
        return self._folder.fold(aggregate, records)

    def remember(self, aggregate: Aggregate[S]) -> None:
        """Keep it in memory for the next command."""
        if not aggregate.sequence:
            return  # ids that never come to anything would drive out those that did
        self._cache[aggregate.id] = self._kept(aggregate)
        self._cache.move_to_end(aggregate.id)
        if len(self._cache) > self._cached:
            self._cache.popitem(last=False)

    def forget(self, id: str) -> None:
        """Do not trust what is in memory."""
        self._cache.pop(id, None)

    async def close(self) -> None:
        """Finish what is being written."""
        if self._snapshots:
            await self._snapshots.close()

    def _recalled(self, id: str) -> Aggregate[S] | None:
        known = self._cache.get(id)
        if known is not None:
            self._cache.move_to_end(id)
        return known

    def _kept(self, aggregate: Aggregate[S]) -> Aggregate[S]:
        if self._snapshots:
            self._snapshots.offer(aggregate)
        return aggregate

    async def _since(self, known: Aggregate[S], last: Recorded) -> Sequence[Recorded]:
        if last.event.version == known.version + 1:
            return (last,)
        loaded = await self._log.load(known.id, after=known.sequence)
        return loaded.events

    async def _behind(self, base: Aggregate[S], snapped: Envelope) -> Aggregate[S]:
        """`base`, from a snapshot made at the event `snapped`, and what came behind it."""
        events = (await self._log.load(base.id, after=base.sequence - 1)).events
        if events and events[0].event.id == snapped.id:
            return self.fold(base, events[1:])
        if events and isinstance(unwrap(events[0].event), Tombstone):
            return self.fold(base, events)
        # The log does not reach the snapshot: it was set back by a restore, or a replica is behind.
        start = Aggregate[S](base.id, snapshot=Mark(sequence=base.snapshot.sequence))
        return self.fold(start, (await self._log.load(base.id)).events)
