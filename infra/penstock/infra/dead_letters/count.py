"""Counts the dead letters of a service that are there, for its metrics. Never reads one."""

from __future__ import annotations

from penstock.infra.bus import Bus
from penstock.infra.repeated import Repeated
from penstock.infra.telemetry import DEAD_LETTERS_KEPT

EVERY = 15.0  # seconds


def letter_count(bus: Bus, service: str) -> Repeated:
    """Sets `penstock_dead_letters_kept` every 15 seconds."""

    async def count() -> None:
        DEAD_LETTERS_KEPT.labels(service).set(await letters(bus, service))

    return Repeated(f"count of {service}'s dead letters", count, every=EVERY)


async def letters(bus: Bus, service: str = "", kind: str = "", *, first: int = 1) -> int:
    """How many dead letters there are from number `first` on, whatever their number is."""
    request = {"seq": first, "next_by_subj": bus.subjects.dead(service, kind), "batch": 1}
    found = await bus.direct_get(bus.subjects.stream("dead"), request)
    return found[0].pending + 1 if found else 0
