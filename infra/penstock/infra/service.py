"""The frame of a service: its log, decider, view, queries and health, started and drained as one.

Holds no domain; the six differ only in what they hand in here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from types import UnionType
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from aiohttp import web

from penstock.contracts.answers import Answer, ById, FlowOf, HistoryEntry, HistoryOf, Question
from penstock.contracts.control import Release
from penstock.contracts.envelope import Envelope, unwrap
from penstock.contracts.errors import InvalidMessage, NotFound, PenstockError
from penstock.contracts.lifecycle import ARCHIVE, ERASE, Archived, Erased
from penstock.infra.aggregate import Aggregate, Folder
from penstock.infra.archive import Archive
from penstock.infra.archiver import Archiver, Finished, whole
from penstock.infra.bus import Bus
from penstock.infra.command_consumer import CommandConsumer
from penstock.infra.control import Control, Verb
from penstock.infra.decider import (
    CarryOut,
    Decide,
    Decider,
    Effect,
    Evolve,
    LookUp,
    archived,
    erased,
)
from penstock.infra.decisions import Decisions
from penstock.infra.eraser import Eraser, Remove
from penstock.infra.event_log import JetStreamEventLog, Recorded
from penstock.infra.held import held_back
from penstock.infra.letter_count import LetterCount
from penstock.infra.objects import Objects
from penstock.infra.projector import Projector
from penstock.infra.queries import LONGEST_WAIT, Endpoint, Query, QueryResponder
from penstock.infra.read_model import ReadModel, View, archived_to
from penstock.infra.redriving import Redriving
from penstock.infra.retention import Candidates, Retention
from penstock.infra.retention_rules import parse
from penstock.infra.sender import Sender
from penstock.infra.settings import Settings
from penstock.infra.snapshots import Snapshots
from penstock.infra.stranded import Stranded

S = TypeVar("S")
BEHIND = 10_000  # events not folded, above which a service is not ready

_encode = msgspec.json.Encoder().encode


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """What a process gives to each service that it runs."""

    bus: Bus
    settings: Settings
    views: Path
    secret: str


class Part(Protocol):
    """Something else that runs in a service: a consumer, a gateway, a timer."""

    async def start(self) -> None:
        """Begin; raises if it cannot."""
        ...

    async def stop(self) -> None:
        """Finish what is in hand and end."""
        ...

    def problem(self) -> str | None:
        """Why it is not doing its work, or None."""
        ...


class Service(Generic[S]):
    """One of the six. `parts` and `routes` are what it has beyond the frame, and `verbs` what
    an operator can ask of each of its instances; `removals` take what is erased from its stores.

    `on_shutdown` is called once no new connection is accepted and before those that are open are
    waited for: whoever holds connections open ends them there.

    `state` is the Struct of its aggregates' states, or a tagged union of them. `finished` names the
    final state that one is in, one of `final`, or gives None: finished ones go to the archive.
    """

    def __init__(
        self,
        frame: Frame,
        name: str,
        *,
        state: type[S] | UnionType,
        decide: Decide[S],
        evolve: Evolve[S],
        view: View[S] | None = None,
        queries: Sequence[Query[Any]] = (),
        effect: Effect[S] | None = None,
        look_up: LookUp[S] | None = None,
        finished: Finished[S] | None = None,
        final: tuple[str, ...] = (),
        salt: str = "",
    ) -> None:
        self.name = name
        self.bus = frame.bus
        self.log = JetStreamEventLog(frame.bus, name, durability=frame.settings.durability)
        self._folder = Folder(evolve)
        view = view or View()
        decisions = Decisions(self.log)
        snapshots = Snapshots(frame.bus, name, state, version=view.version)
        self._segments = Archive(Objects(frame.bus), name)
        self.removals: list[Remove] = [
            self._from_archive,
            lambda command, _: decisions.forget(command.subject),
            lambda command, _: snapshots.erase(command.subject),
            lambda command, _: Redriving(frame.bus).forget(name, command.subject),
        ]
        self.decider = Decider(
            self.log,
            decide,
            evolve,
            decisions,
            snapshots=snapshots,
            effect=effect,
            look_up=look_up,
            own=self._own_commands(finished, snapshots),
        )
        self.model = ReadModel(
            frame.views / f"{name}.sqlite",
            view,
            state,
            salt=frame.bus.subjects.prefix + salt,
        )
        self.projector = Projector(frame.bus, self.log, self.model, evolve)
        self.commands = CommandConsumer(frame.bus, name, self.decider.handle)
        self.verbs: dict[str, Verb] = {
            # Looked up when it is asked: a view that is made anew has a projector of its own.
            "release": Verb(Release, lambda asked: self.projector.holding.release_all(asked))  # noqa: PLW0108
        }
        rules = parse(frame.settings.retention).get(name, {})
        self.parts: list[Part] = [
            Control(frame.bus, name, self.verbs),
            LetterCount(frame.bus, name),
            Stranded(frame.bus, frame.bus.subjects.stream("cmd"), f"{name}-commands"),
            Retention(
                Sender(frame.bus),
                name,
                rules if final else {},
                final,
                every=frame.settings.retention_interval,
            ),
        ]
        self.routes: list[web.AbstractRouteDef] = []
        self.on_shutdown: list[Callable[[web.Application], Awaitable[None]]] = []
        self._state = state
        self.endpoints = [*map(self._bind, queries), *self._common()]
        self._responder = QueryResponder(frame.bus, name, self.endpoints)

    def _own_commands(
        self, finished: Finished[S] | None, snapshots: Snapshots[S]
    ) -> dict[type[msgspec.Struct], CarryOut]:
        """The frame's commands, which every service has."""
        archiver = Archiver(
            self.log,
            self._segments,
            self._folder,
            finished=finished or (lambda _: None),
            candidates=Candidates(self.log, lambda: self.model, finished or (lambda _: None)),
            forget=snapshots.forget,
        )
        eraser = Eraser(self.log, self.removals)
        return {ERASE[self.name]: eraser, ARCHIVE[self.name]: archiver}

    async def _from_archive(self, command: Envelope, records: Sequence[Recorded]) -> None:
        """Take what is erased out of the archive, from each of its lives; see `Eraser`."""
        for data in (unwrap(record.event) for record in await whole(records, self._segments)):
            if isinstance(data, Archived):
                await self._segments.leave_out(data.segment, [command.subject])

    async def start(self) -> None:
        """Fold, answer and run the parts; commands begin with the broker."""
        self.projector.start()
        await self._responder.start()
        for part in self.parts:
            await part.start()

    async def stop(self) -> None:
        """End in the opposite order; the broker must have stopped before."""
        for part in reversed(self.parts):
            await part.stop()
        await self._responder.stop()
        await self.projector.stop()
        await self.decider.close()
        await self.log.close()
        self.model.close()

    def problems(self) -> list[str]:
        """Why this service is not ready; empty when it is."""
        found = [p.problem() for p in self.parts]
        if self.projector.failure:
            found.append(f"its view cannot be written: {self.projector.failure}")
        if self.projector.lag > BEHIND:
            found.append(f"its view is {self.projector.lag} events behind")
        return [problem for problem in found if problem]

    # -- the queries that every service has --------------------------------------------------

    def _common(self) -> list[Endpoint]:
        path, one = f"/{self.name}/{{id}}", self.name
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

    def _bind(self, query: Query[Any]) -> Endpoint:
        async def ask(params: Question) -> Answer:
            await self._reached(params)
            sequence, (result, begins) = await self.model.read(
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

    async def _reached(self, params: Question) -> None:
        await self.projector.reached(params.min_seq, min(params.wait, LONGEST_WAIT))

    async def _get(self, params: ById) -> Answer:
        if params.at is not None:
            return await self._get_at(params.id, params.at)
        await self._reached(params)
        deadline = asyncio.get_running_loop().time() + min(params.wait, LONGEST_WAIT)
        while True:
            with self.projector.watching(params.id) as news:
                sequence, (found, hold) = await self.model.read(self.model.known, params.id)
                left = deadline - asyncio.get_running_loop().time()
                if found is None and params.after is not None:
                    await self._raise_if_over(params.id)
                awaited = params.after is not None and (found[0] if found else 0) <= params.after
                if awaited and left > 0:
                    await asyncio.wait((news,), timeout=left)
                    continue
            if found is None and hold is not None:
                raise held_back(self.name, hold)
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
        until = _moment(at)
        records = [record for record in await self._whole(id) if until(record)]
        then = self._folder.fold(Aggregate[S](id), records)
        if then.state is None:
            raise self._missing(then, f"{self.name} knew no {id!r} at {at}.")
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
        return self._missing(await self.decider.load(id), f"{self.name} knows no {id!r}.")

    def _missing(self, aggregate: Aggregate[S], otherwise: str) -> PenstockError:
        match aggregate.tombstone:
            case Erased():
                return erased(aggregate)
            case Archived():
                return archived(aggregate)
            case _:
                return NotFound(otherwise, id=aggregate.id)

    async def _history(self, params: HistoryOf) -> Answer:
        records = await self._whole(params.id)
        if not records:
            raise NotFound(f"{self.name} knows no {params.id!r}.", id=params.id)
        return self._entries(records, records[-1].sequence)

    async def _whole(self, id: str) -> Sequence[Recorded]:
        """Every event of one aggregate, also those in the archive."""
        return await whole((await self.log.load(id)).events, self._segments)

    async def _flow(self, params: FlowOf) -> Answer:
        await self._reached(params)
        sequence, numbers = await self.model.read(self.model.flow, params.id)
        found = await asyncio.gather(*(self.log.get(number) for number in numbers))
        return self._entries([record for record in found if record], sequence)

    def _entries(self, records: Sequence[Recorded], sequence: int) -> Answer:
        entries = [_entry(self.name, record) for record in records]
        return Answer(sequence=sequence, data=msgspec.Raw(_encode(entries)))


def _entry(service: str, record: Recorded) -> HistoryEntry:
    event = record.event
    return HistoryEntry(
        sequence=record.sequence,
        service=service,
        subject=event.subject,
        version=event.version,
        id=event.id,
        type=event.type,
        time=event.time,
        data=msgspec.json.decode(event.data),
        correlationid=event.correlationid,
        causationid=event.causationid,
        causationtype=event.causationtype,
        causationtime=event.causationtime,
        actor=event.actor,
        traceparent=event.traceparent,
    )


def _moment(at: str) -> Callable[[Recorded], bool]:
    """Whether a record had happened at `at`, a stream sequence or a time with its offset."""
    if at.isdecimal():
        return lambda record: record.sequence <= int(at)
    try:
        time = datetime.fromisoformat(at)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise InvalidMessage(
            f"at={at!r} is neither a stream sequence nor a time such as 2026-01-31T09:30:00Z.",
            path="$.at",
        )
    moment = time
    return lambda record: record.event.time <= moment
