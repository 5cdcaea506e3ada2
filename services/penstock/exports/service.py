"""Wires exports into the frame of a service."""

from __future__ import annotations

import os

from penstock.contracts.exports import SERVICE, DocumentState, ExportState
from penstock.exports.api import file_route
from penstock.exports.documents import Documents
from penstock.exports.domain import FINAL, State, decide, evolve, finished
from penstock.exports.exporter import Exporter
from penstock.exports.histories import Histories
from penstock.exports.overdue import Overdue
from penstock.exports.removal import Removal
from penstock.exports.renderer import Renderer
from penstock.exports.views import QUERIES, ExportsView
from penstock.infra.consuming.event_consumer import STALLED, EventConsumer
from penstock.infra.objects import Objects
from penstock.infra.repeated import Repeated
from penstock.infra.sender import Sender
from penstock.infra.service import Frame, Service

RENDERER = "exports-renderer"  # the consumer of requests
LOOK = 10.0  # seconds between two looks for requests that the server lost sight of
AT_ONCE = min(4, os.cpu_count() or 1)  # exports of one instance in hand; the others wait


def build(frame: Frame) -> Service[State]:
    """The exports service, yet to be started."""
    objects = Objects(frame.bus)
    documents = Documents(objects, Histories(objects, Sender(frame.bus)))
    service: Service[State] = Service(
        frame,
        SERVICE,
        state=ExportState | DocumentState,
        decide=decide,
        evolve=evolve,
        finished=finished,
        final=FINAL,
        view=ExportsView(),
        queries=QUERIES,
        look_up=documents.look_up,
    )
    service.removals.append(Removal(objects, service).remove)
    renderer = Renderer(objects, frame.views, at_once=AT_ONCE)
    exporter = Exporter(service.log, service.decider, documents, renderer)
    consumer = EventConsumer(
        frame.bus,
        SERVICE,
        RENDERER,
        exporter.handle,
        at_once=AT_ONCE,
        grace=frame.settings.drain_seconds,
    )
    service.watchdog.watch(consumer.durable, "event", patience=STALLED)
    overdue = Overdue(service, RENDERER, exporter.handle)
    service.parts += [
        renderer,
        consumer,
        Repeated("search for lost exports", overdue.look, every=LOOK, first=LOOK),
    ]
    service.verbs |= consumer.verbs
    service.routes.append(file_route(service.model, objects))
    return service
