"""Wires jobs into the frame of a service."""

from __future__ import annotations

from penstock.contracts.jobs import SERVICE, JobState
from penstock.infra.service import Frame, Service
from penstock.infra.stranded import Stranded
from penstock.jobs.dispatch import Dispatch
from penstock.jobs.domain import FINAL, decide, evolve, finished
from penstock.jobs.due import DUE, DueJobs
from penstock.jobs.views import QUERIES, JobsView


def build(frame: Frame) -> Service[JobState]:
    """The jobs service, yet to be started."""
    dispatch = Dispatch(frame.bus)
    service = Service(
        frame,
        SERVICE,
        state=JobState,
        decide=decide,
        evolve=evolve,
        finished=finished,
        final=FINAL,
        view=JobsView(),
        queries=QUERIES,
        effect=dispatch.effect,
    )
    service.removals.append(dispatch.remove)
    stream = frame.bus.subjects.stream
    service.parts += [
        DueJobs(frame.bus, service.decider.load, dispatch),
        Stranded(frame.bus, stream("work")),
        Stranded(frame.bus, stream("sched"), DUE),
    ]
    return service
