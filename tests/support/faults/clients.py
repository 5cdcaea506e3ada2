"""Clients that send commands under fire, each until it has its answer, and note what they heard."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence

from penstock.client import Penstock
from penstock.contracts.answers import Outcome
from penstock.contracts.cache import InvalidateTag
from penstock.contracts.changes import EntityChanged, tags_of
from penstock.contracts.errors import Conflict, PenstockError, Unavailable
from penstock.contracts.exports import PutDocument
from support.faults.ledger import Ledger, Sent
from support.faults.stories import Step, probes, story

TRY = 1.0  # seconds that one try waits for its answer
AGAIN = 0.05  # seconds until a client that was turned away tries again
LONGEST = 60.0  # seconds until a command must be answered
LANES = 4  # stories that each client tells at a time
PAUSE = 0.08  # seconds, at most, that a lane waits between two commands


class Client:
    """One connection. A command has the same id in every try."""

    def __init__(self, ps: Penstock, ledger: Ledger) -> None:
        self.ps = ps
        self.ledger = ledger

    async def send(self, entry: Sent) -> None:
        """Send until the outcome comes, which may be a refusal."""
        self.ledger.answered(entry, await self._until_answered(entry))

    async def post(self, entry: Sent) -> None:
        """Send until it is accepted."""
        deadline = time.monotonic() + LONGEST
        while True:
            try:
                await self.ps.session.post(entry.command, id=entry.aggregate, command_id=entry.id)
            except Unavailable:
                await _pause(entry, deadline)
            else:
                self.ledger.accepted(entry)
                return

    async def publish(self, entity: str, id: str, change_id: str) -> None:
        """Publish a change, which invalidates tags as if by commands of these ids."""
        tags = tags_of(EntityChanged(entity=entity, id=id))
        entries = [
            self.ledger.begin("cache", tag, InvalidateTag(), f"{change_id}:{tag}") for tag in tags
        ]
        deadline = time.monotonic() + LONGEST
        while True:
            try:
                await self.ps.changes.publish(entity, id, change_id=change_id)
            except Unavailable:
                await _pause(entries[0], deadline)
            else:
                for entry in entries:
                    self.ledger.accepted(entry)
                return

    async def _until_answered(self, entry: Sent) -> Outcome:
        deadline = time.monotonic() + LONGEST
        while True:
            entry.tries += 1
            try:
                return await self.ps.session.command(
                    entry.command, id=entry.aggregate, command_id=entry.id, timeout=TRY
                )
            except (Unavailable, Conflict):
                await _pause(entry, deadline)
            except PenstockError as refusal:
                return Outcome(id=entry.id, problem=refusal.problem())


async def _pause(entry: Sent, deadline: float) -> None:
    if time.monotonic() > deadline:
        raise AssertionError(
            f"{entry.service} did not answer {entry.id} to {entry.aggregate!r} in {LONGEST:g} s"
        )
    await asyncio.sleep(AGAIN)


class Load:
    """Several clients at once, from `start` to `stop`; everything they do is in the ledger."""

    def __init__(self, clients: Sequence[Client], ledger: Ledger, chance: random.Random) -> None:
        self._clients = clients
        self._ledger = ledger
        self._chance = chance
        self._stories = 0
        self._stop = asyncio.Event()
        self._lanes: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._stop.clear()
        self._lanes = [
            asyncio.create_task(self._lane(client))
            for client in self._clients
            for _ in range(LANES)
        ]

    async def stop(self) -> None:
        """Return when every lane has its last answer. Raises what a lane raised."""
        self._stop.set()
        await asyncio.gather(*self._lanes)

    async def cancel(self) -> None:
        for lane in self._lanes:
            lane.cancel()
        await asyncio.gather(*self._lanes, return_exceptions=True)

    def check(self) -> None:
        """Raises what a lane raised until now."""
        for lane in self._lanes:
            if lane.done():
                lane.result()

    async def probe(self, name: str) -> None:
        """Return when every service has answered a command sent now."""
        entries = [self._begin(step, f"{name}-{step[0]}") for step in probes(name)]
        await asyncio.gather(*(self._clients[0].send(entry) for entry in entries))

    async def _lane(self, client: Client) -> None:
        while not self._stop.is_set():
            self._stories += 1
            name = f"s{self._stories}"
            if self._chance.random() < 0.1:
                await client.publish("user", str(self._chance.randrange(5)), name)
            for number, step in enumerate(story(self._chance, name), 1):
                if self._stop.is_set():
                    return
                await self._do(client, self._begin(step, f"{name}-{number}"))
                await asyncio.sleep(self._chance.uniform(0, PAUSE))

    async def _do(self, client: Client, entry: Sent) -> None:
        dice = self._chance.random()
        # An export asks for a document by another aggregate's name: it must be known to be there.
        if dice < 0.1 and not isinstance(entry.command, PutDocument):
            await client.post(entry)
        elif dice < 0.2:
            other = self._chance.choice(self._clients)
            await asyncio.gather(client.send(entry), other.send(entry))
        else:
            await client.send(entry)
        if dice > 0.9:
            before = self._chance.choice(self._ledger.entries)
            if before.answers:
                await client.send(before)

    def _begin(self, step: Step, id: str) -> Sent:
        service, aggregate, command = step
        return self._ledger.begin(service, aggregate, command, id)
