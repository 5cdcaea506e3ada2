"""Wires progress into the frame of a service."""

from __future__ import annotations

from penstock.contracts.progress import SERVICE, ProgressState
from penstock.infra.service import Frame, Service
from penstock.progress.domain import FINAL, decide, evolve, finished
from penstock.progress.views import QUERIES, ProgressView


def build(frame: Frame) -> Service[ProgressState]:
    """The progress service, yet to be started."""
    return Service(
        frame,
        SERVICE,
        state=ProgressState,
        decide=decide,
        evolve=evolve,
        finished=finished,
        final=FINAL,
        view=ProgressView(),
        queries=QUERIES,
    )
