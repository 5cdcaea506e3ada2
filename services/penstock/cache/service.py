"""Wires the cache into the frame of a service."""

from __future__ import annotations

from penstock.cache.change_consumer import ChangeConsumer
from penstock.cache.domain import decide, evolve
from penstock.cache.views import QUERIES, TagView
from penstock.contracts.cache import SERVICE, TagState
from penstock.infra.service import Frame, Service


def build(frame: Frame) -> Service[TagState]:
    """The cache service, yet to be started."""
    service = Service(
        frame,
        SERVICE,
        state=TagState,
        decide=decide,
        evolve=evolve,
        view=TagView(),
        queries=QUERIES,
    )
    changes = ChangeConsumer(frame.bus, service.decider.handle)
    service.watchdog.watch(changes.durable(), "change")
    service.parts.append(changes)
    return service
