"""The frame of a service: its log, decider, view, queries and health, started and drained as one.

Holds no domain; the six differ only in what they hand in here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from aiohttp import web

from penstock.contracts.control import Release
from penstock.contracts.envelope import messages
from penstock.infra.answering import Answering
from penstock.infra.bus import Bus
from penstock.infra.consuming.clearing import clearing
from penstock.infra.consuming.command_consumer import CommandConsumer
from penstock.infra.consuming.stranded import stranded
from penstock.infra.consuming.watchdog import Watchdog
from penstock.infra.control import Control, Verb
from penstock.infra.dead_letters.count import letter_count
from penstock.infra.dead_letters.redriving import Redriving
from penstock.infra.deciding.aggregate import Folder
from penstock.infra.deciding.decider import (
    CarryOut,
    Decide,
    Decider,
    Effect,
    Evolve,
    LookUp,
)
from penstock.infra.deciding.decisions import Decisions
from penstock.infra.deciding.snapshots import Snapshots
from penstock.infra.endings.archiver import Finished, Gone
from penstock.infra.endings.commands import from_archive, never, own_commands
from penstock.infra.endings.eraser import Remove
from penstock.infra.endings.retention import Retention
from penstock.infra.endings.rules import parse
from penstock.infra.endings.segments import Archive
from penstock.infra.event_log import JetStreamEventLog
from penstock.infra.objects import Objects
from penstock.infra.queries import Query, QueryResponder
from penstock.infra.repeated import Repeated
from penstock.infra.restored import AfterRestore, Reconcile
from penstock.infra.routes import Route
from penstock.infra.sender import Sender
from penstock.infra.settings import Settings
from penstock.infra.views.live_view import LiveView
from penstock.infra.views.projector import Projector
from penstock.infra.views.refold import Refold
from penstock.infra.views.verbs import view_verbs
from penstock.infra.views.view import View

S = TypeVar("S")
DAY = 86_400.0  # seconds
BEHIND = 10_000  # events not folded, above which a service is not ready
IN_DOUBT = 50  # commands that are found out about before they are removed
BEHIND_ONE = 1_000  # commands that are done behind one that is not, before they go by themselves

_encode = msgspec.json.Encoder().encode


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """What a process gives to each service that it runs.

    `generation` changes when the log was restored from a backup: views of another are stale.
    """

    bus: Bus
    settings: Settings
    views: Path
    secret: str
    generation: str = ""


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
    an operator can ask of each of its instances; `removals` take what is erased from its stores,
    and `archived` are told what moved to the archive.
    `own` carries out the commands that are not decided upon one aggregate, by type.

    `reconcile` puts right, from the events, what is beside the log and was restored with it from
    another instant, such as work items. It must be idempotent.

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
        finished: Finished[S] = never,
        final: tuple[str, ...] = (),
        salt: str = "",
    ) -> None:
        self.name = name
        self.bus = frame.bus
        self.log = JetStreamEventLog(frame.bus, name, durability=frame.settings.durability)
        folder = Folder(evolve)
        view = view or View()
        decisions = Decisions(self.log)
        snapshots = Snapshots(frame.bus, name, state, version=view.version)
        segments = Archive(Objects(frame.bus), name)
        self.removals: list[Remove] = [
            from_archive(segments),
            lambda command, _: decisions.forget(command.subject),
            lambda command, _: snapshots.erase(command.subject),
            lambda command, _: Redriving(frame.bus).forget(name, command.subject),
        ]
        self.archived: list[Gone] = []
        self.model = LiveView(
            frame.views,
            name,
            view,
            state,
            salt=frame.bus.subjects.prefix + frame.generation + salt + _known_events(name),
        )
        self.projector = Projector(frame.bus, self.log, self.model, evolve)
        self.model.before_read = self.projector.fold_what_came
        self.own: dict[type[msgspec.Struct], CarryOut] = own_commands(
            self.log,
            self.model,
            folder,
            segments=segments,
            snapshots=snapshots,
            finished=finished,
            remembered=frame.settings.archive_memory * DAY,
            removals=self.removals,
            archived=self.archived,
            folded=self.projector.reach_end,
        )
        self.decider = Decider(
            self.log,
            decide,
            evolve,
            decisions,
            snapshots=snapshots,
            effect=effect,
            look_up=look_up,
            own=self.own,
        )
        self.commands = CommandConsumer(frame.bus, name, self.decider.handle)
        refold = partial(Refold, self.log, evolve)
        self.verbs: dict[str, Verb] = {
            "release": Verb(Release, self.projector.holding.release_all),
            **view_verbs(self.model, self.projector, refold),
        }
        self.reconcile: Reconcile | None = None
        interval = frame.settings.retention_interval
        rules = parse(frame.settings.retention).get(name, {}) if final else {}
        retention = Retention(Sender(frame.bus), name, rules, final, every=interval)
        stream, done = frame.bus.subjects.stream("cmd"), self.commands.done
        self.clearing = clearing(
            frame.bus,
            stream,
            done.settled,
            behind=done.known,
            consumer=self.commands.name,
            most=BEHIND_ONE,
            page=IN_DOUBT,
        )
        self.watchdog = Watchdog(frame.bus, name)
        self.watchdog.watch(self.commands.durable(), "command")
        self.parts: list[Part] = [
            self.watchdog,
            Control(frame.bus, name, self.verbs),
            letter_count(frame.bus, name),
            AfterRestore(frame.bus, self.log, self._folded, self._reconcile),
            stranded(frame.bus, stream, self.commands.name, unless_cleared=True),
            Repeated(f"retention of {name}", retention.look, every=interval),
        ]
        self.routes: list[Route] = []
        self.on_shutdown: list[Callable[[web.Application], Awaitable[None]]] = []
        answering = Answering(
            self.log,
            self.model,
            self.projector,
            folder=folder,
            load=self.decider.load,
            segments=segments,
            state=state,
        )
        self.endpoints = [*map(answering.bind, queries), *answering.common()]
        self._responder = QueryResponder(frame.bus, name, self.endpoints)

    async def start(self) -> None:
        """Fold, answer and run the parts; commands begin with the broker."""
        self.projector.start()
        await self._responder.start()
        for part in self._running():
            await part.start()

    async def stop(self) -> None:
        """End in the opposite order; the broker must have stopped before."""
        for part in reversed(self._running()):
            await part.stop()
        await self._responder.stop()
        await self.projector.stop()
        await self.decider.close()
        await self.log.close()
        self.model.close()

    def problems(self) -> list[str]:
        """Why this service is not ready; empty when it is."""
        found = [part.problem() for part in self._running()]
        if self.projector.follower:
            found.append(self.projector.follower.problem)
        if self.projector.failure:
            found.append(f"its view cannot be written: {self.projector.failure}")
        if self.projector.lag is None:
            found.append("its view does not follow its log yet")
        elif self.projector.lag > BEHIND:
            found.append(f"its view is {self.projector.lag} events behind")
        return [problem for problem in found if problem]

    def _running(self) -> list[Part]:
        # Last what may carry out commands once more, when all is there that they need.
        return [*self.parts, self.clearing]

    async def _folded(self, sequence: int, timeout: float) -> None:
        await self.projector.reached(sequence, timeout)

    async def _reconcile(self) -> None:
        if self.reconcile:
            await self.reconcile()


def _known_events(service: str) -> str:
    """Changes with what can be read: an event that was not understood before is folded then."""
    return " ".join(sorted(messages(service, "event")))
