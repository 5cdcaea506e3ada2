"""kill -9 of services, workers and nats-server under load: every promise is kept, every view true.

What is promised is in `support.faults.checker`.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from penstock.client import Penstock
from penstock.contracts.jobs import EnqueueJob
from penstock.infra.bus import Bus
from penstock.infra.nats_server.configuration import Durability
from support.faults.checker import Violation, check, unfinished
from support.faults.clients import Client, Load
from support.faults.ledger import Ledger
from support.faults.processes import System
from support.faults.reading import (
    answer_sooner,
    caught_up_views,
    commands_done,
    dead_letters,
    logs,
)
from support.faults.views import clean_fold, compare, reached

CLIENTS = 4
CHECKED = 10  # rounds between two checks
UNTIL_KILLED = 0.6  # seconds of load before a kill, at most
ACK_WAIT = 2.0
SLOWEST = 60.0  # seconds that recovery may take
# What is killed, and how often in comparison with the others.
VICTIMS = {"east": 15, "west": 15, "both": 15, "nats": 25, "worker": 15, "all": 15}

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="kills process groups"),
    pytest.mark.timeout(0),  # each wait has its own bound
]


class Trial:
    """A system, its clients and their ledger; rounds of kills, and checks between them."""

    def __init__(self, system: System, bus: Bus, clients: Sequence[Client], seed: int) -> None:
        self.system = system
        self.bus = bus
        self.ledger = clients[0].ledger
        self.chance = random.Random(seed)
        self.load = Load(clients, self.ledger, random.Random(seed + 1))
        self.slowest: tuple[float, str] = (0.0, "nothing")

    async def rounds(self, numbers: range) -> None:
        """Kill something in each round, while the clients go on."""
        self.load.start()
        try:
            for number in numbers:
                await self._round(number)
            await self.load.stop()
        finally:
            await self.load.cancel()

    async def _round(self, number: int) -> None:
        await asyncio.sleep(self.chance.uniform(0, UNTIL_KILLED))
        [victim] = self.chance.choices(list(VICTIMS), list(VICTIMS.values()))
        await self.system.kill(victim)
        killed = time.monotonic()
        await self.load.probe(f"p{number}")
        took = time.monotonic() - killed
        self.slowest = max(self.slowest, (took, f"of {victim}, in round {number}"))
        assert took < SLOWEST
        self.load.check()
        self.system.check()

    async def checked(self) -> list[Violation]:
        """What is wrong once everything accepted is done."""
        await commands_done(self.bus)
        views = await caught_up_views(self.bus, self.system)
        stored = await logs(self.bus)
        found = check(self.ledger, stored, await dead_letters(self.bus))
        with TemporaryDirectory() as directory:
            for (service, instance), live in views.items():
                records = [r for r in stored[service] if r.sequence <= reached(live)]
                path = Path(directory) / f"{service}-{instance}.sqlite"
                found += compare(service, instance, live, clean_fold(service, records, path))
        return found

    async def finished(self) -> list[Violation]:
        """What never came to an end, once it had its time."""
        delayed = {
            entry.aggregate
            for entry in self.ledger
            if isinstance(entry.command, EnqueueJob) and entry.command.delay
        }
        deadline = time.monotonic() + SLOWEST
        while found := unfinished(await logs(self.bus), delayed):
            if time.monotonic() > deadline:
                return found
            await asyncio.sleep(0.2)
        return []

    def report(self) -> str:
        kills = ", ".join(f"{n} of {victim}" for victim, n in sorted(self.system.kills.items()))
        took, what = self.slowest
        return (
            f"kills: {kills}; {self.ledger.summary()};"
            f" slowest recovery {took:.1f} s {what};"
            f" ended by themselves: {self.system.given_up or 'none'}"
        )


@pytest.mark.parametrize("durability", ["os", "fsync"])
async def test_what_was_acknowledged_is_stored_once_and_seen_whatever_is_killed(
    tmp_path: Path, kill_rounds: int, seed: int, durability: Durability
) -> None:
    share = max(kill_rounds // 5, 1)  # a sync takes longer, and kills lose nothing without
    rounds = share if durability == "fsync" else max(kill_rounds - share, 1)
    print(f"seed {seed} (repeat with --seed {seed}), {rounds} rounds, durability {durability}")
    async with AsyncExitStack() as stack:
        system = System(tmp_path, durability)
        stack.push_async_callback(system.close)
        trial = await begun(stack, system, seed)
        for start in range(0, rounds, CHECKED):
            began = time.monotonic()
            await trial.rounds(range(start, min(start + CHECKED, rounds)))
            done = time.monotonic()
            found = await trial.checked()
            print(
                f"{min(start + CHECKED, rounds)} rounds: {done - began:.1f} s,"
                f" check {time.monotonic() - done:.1f} s; {trial.report()}"
            )
            assert not found, told(found, system)
        found = [*await trial.finished(), *await trial.checked()]
        assert not found, told(found, system)
        print(trial.report())


async def begun(stack: AsyncExitStack, system: System, seed: int) -> Trial:
    """The system started, with its clients connected."""
    await system.start()
    bus = await stack.enter_async_context(await Bus.connect(system.url))
    ledger = Ledger()
    clients = [
        Client(await stack.enter_async_context(Penstock(system.url, timeout=1.0)), ledger)
        for _ in range(CLIENTS)
    ]
    trial = Trial(system, bus, clients, seed)
    await trial.load.probe("ready")
    await answer_sooner(bus, ACK_WAIT)
    return trial


def told(found: list[Violation], system: System) -> str:
    """The first violations of each kind, and what the programs said."""
    kinds = {violation.kind for violation in found}
    lines = [
        f"{v.kind}: {v.service} {v.aggregate!r}: {v.what}"
        for kind in sorted(kinds)
        for v in [v for v in found if v.kind == kind][:5]
    ]
    return "\n".join([f"{len(found)} violations", *lines, system.logs()])
