"""Answers what is asked of a service: its own questions, and those that all six have in common.

State now and at any time, history, flow: from the view, the log and the archive. Never changes
anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import UnionType
from typing import Any, Generic, TypeVar

import msgspec

from penstock.contracts.answers import Answer, ById, FlowOf, HistoryEntry, HistoryOf, Question
from penstock.contracts.errors import NotFound, PenstockError
from penstock.contracts.lifecycle import Archived, Erased
from penstock.infra.deciding.aggregate import Aggregate, Folder
from penstock.infra.deciding.decider import Load, archived, erased
from penstock.infra.endings.archiver import whole
from penstock.infra.endings.segments import Archive
from penstock.infra.event_log import JetStreamEventLog, Recorded
from penstock.infra.queries import LONGEST_WAIT, Endpoint, Query
from penstock.infra.telling import entry, happened_by
from penstock.infra.views.held import held_back
from penstock.infra.views.live_view import LiveView
from penstock.infra.views.projector import Projector
from penstock.infra.views.read_model import archived_to

S = TypeVar("S")

_encode = msgspec.json.Encoder().encode


class Answering(Generic[S]):
    """The endpoints of one service; `state` is what its aggregates' states are."""

    def __init__(
        self,
        log: JetStreamEventLog,
        model: LiveView[S],
        projector: Projector[S],
        *,
        folder: Folder[S],
        load: Load[S],
        segments: Archive,
        state: type[S] | UnionType,
    ) -> None:
        self._name = log.service
        self._log = log
        self._model = model
        self._projector = projector
        self._folder = folder
        self._load = load
        self._segments = segments
        self._state = state

    def common(self) -> list[Endpoint]:
        """The questions that every service answers."""
        path, one = f"/{self._name}/{{id}}", self._name
        return [
            Endpoint(name="flow", path=f"/{one}/flows/{{id}}", params=FlowOf,
                     returns=list[HistoryEntry], ask=self._flow,
                     summary="Every event of a flow, by its correlation id"),
            Endpoint(name="history", path=f"{path}/history", params=HistoryOf,
                     returns=list[HistoryEntry], ask=self._history,
                     summary="Every event of one: what, who, why, when"),
            Endpoint(name="get", path=path, params=ById, returns=self._state, ask=self._get,
                     summary="The state of one, now, at a time, or as soon as it changes"),
        ]  # fmt: skip

    def bind(self, query: Query[Any]) -> Endpoint:
        """A question of the service's own."""

        async def ask(params: Question) -> Answer:
            async with self._reached(params):
                sequence, (result, begins) = await self._model.read(
                    lambda db: (query.read(db, params), archived_to(db))
                )
            data = msgspec.Raw(_encode(result))
            return Answer(sequence=sequence, archived_to=begins, data=data)

        return Endpoint(
            name=query.name,
            path=query.path,
            params=query.params,
            returns=query.returns,
            ask=ask,
            method=query.method,
            summary=query.summary,
        )

    @asynccontextmanager
    async def _reached(self, params: Question) -> AsyncIterator[int]:
        """Wait for the sequence that is asked for; the one that is there.

        What the block raises tells it as well: not to be found is an answer too.
        """
        await self._projector.fold_what_came()
        asked = await self._sequence(params)
        await self._projector.reached(asked, min(params.wait, LONGEST_WAIT))
        sequence = self._projector.sequence
        try:
            yield sequence
        except PenstockError as error:
            error.fields.setdefault("sequence", sequence)
            raise

    async def _sequence(self, params: Question) -> int:
        """The least that an answer has to reflect."""
        end = await self._log.last_sequence() if params.newest else 0
        return max(params.min_seq, end)

    async def _get(self, params: ById) -> Answer:
        async with self._reached(params):
            if params.at is not None:
                return await self._get_at(params.id, params.at)
            return await self._get_now(params)

    async def _get_now(self, params: ById) -> Answer:
        deadline = asyncio.get_running_loop().time() + min(params.wait, LONGEST_WAIT)
        while True:
            with self._projector.watching(params.id) as news:
                sequence, (found, hold) = await self._model.read(self._model.known, params.id)
                left = deadline - asyncio.get_running_loop().time()
                if found is None and params.after is not None:
                    await self._raise_if_over(params.id)
                awaited = params.after is not None and (found[0] if found else 0) <= params.after
                if awaited and left > 0:
                    await asyncio.wait((news,), timeout=left)
                    continue
            if found is None and hold is not None:
                raise held_back(self._name, hold)
            if found is None:
                raise await self._absent(params.id)
            revision, state = found
            return Answer(
                sequence=sequence,
                revision=revision,
                data=msgspec.Raw(_encode(state)),
                held=hold.sequence if hold else 0,
            )

    async def _get_at(self, id: str, at: str) -> Answer:
        until = happened_by(at)
        records = [record for record in await self._whole(id) if until(record)]
        then = self._folder.fold(Aggregate[S](id), records)
        if then.state is None:
            raise self._missing(then, f"{self._name} knew no {id!r} at {at}.")
        return Answer(
            sequence=then.sequence,
            revision=then.sequence,
            data=msgspec.Raw(_encode(then.state)),
        )

    async def _raise_if_over(self, id: str) -> None:
        """For whoever waits for news of it: there may never be any."""
        error = await self._absent(id)
        if not isinstance(error, NotFound):
            raise error

    async def _absent(self, id: str) -> PenstockError:
        """Why the view has no such aggregate."""
        return self._missing(await self._load(id), f"{self._name} knows no {id!r}.")

    def _missing(self, aggregate: Aggregate[S], otherwise: str) -> PenstockError:
        match aggregate.tombstone:
            case Erased():
                return erased(aggregate)
            case Archived():
                return archived(aggregate)
            case _:
                return NotFound(otherwise, id=aggregate.id)

    async def _history(self, params: HistoryOf) -> Answer:
        async with self._reached(params) as sequence:  # the log has it, and perhaps more
            records = await self._whole(params.id)
            if not records and params.archive:
                records = await self._segments.search(params.id)
            if not records:
                raise NotFound(f"{self._name} knows no {params.id!r}.", id=params.id)
            return self._entries(records, max(sequence, records[-1].sequence))

    async def _whole(self, id: str) -> Sequence[Recorded]:
        """Every event of one aggregate, also those in the archive."""
        return await whole((await self._log.load(id)).events, self._segments)

    async def _flow(self, params: FlowOf) -> Answer:
        async with self._reached(params):
            sequence, numbers = await self._model.read(self._model.flow, params.id)
        found = await asyncio.gather(*(self._log.get(number) for number in numbers))
        return self._entries([record for record in found if record], sequence)

    def _entries(self, records: Sequence[Recorded], sequence: int) -> Answer:
        entries = [entry(self._name, record) for record in records]
        return Answer(sequence=sequence, data=msgspec.Raw(_encode(entries)))
