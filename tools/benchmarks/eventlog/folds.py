"""Folding a stream into a view, and rebuilding a view until it serves."""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path

from eventsourcing.persistence import ApplicationRecorder

from benchmarks.eventlog.figures import OURS, Figure, Samples, figure
from benchmarks.eventlog.library import libraries
from benchmarks.eventlog.library_projection import Projected, projections
from benchmarks.eventlog.material import SERVICE, fill, history, stream
from penstock.contracts.progress import ListProgress, ProgressState
from penstock.infra.bus import Bus
from penstock.infra.event_log import JetStreamEventLog
from penstock.infra.views.projector import Projector
from penstock.infra.views.read_model import ReadModel
from penstock.progress.domain import evolve
from penstock.progress.views import ProgressView, listed

TURNS = 3
LIBRARY_FOLDED = 10_000  # it takes a transaction an event, so that more would tell no more


async def folds(directory: Path, postgres: str | None, folded: int) -> list[Figure]:
    """Folding every event into progress's view, and what the library needs for a like one."""
    fold: Samples = defaultdict(list)
    rebuild: Samples = defaultdict(list)
    with (
        libraries(directory, postgres, "os") as sources,
        projections(directory, postgres) as views,
    ):
        for source in sources:
            source.fill(history(LIBRARY_FOLDED))
        async with stream(directory / "fold", "os") as bus:
            await fill(bus, folded)
            for turn in range(TURNS):
                folding, served = await _rebuilt(bus, directory / f"view-{turn}.sqlite")
                fold[OURS].append(folding)
                rebuild[OURS].append(served)
                for source, view in zip(sources, views, strict=True):
                    rebuild[source.system].append(_projected(view, source.recorder))
    return [
        figure("fold into a view", "view: os", "events/s", fold, least=40_000),
        figure("rebuild a view until it serves", "view: os", "events/s", rebuild),
    ]


async def _rebuilt(bus: Bus, path: Path) -> tuple[float, float]:
    """Events a second from the stream to the disk, and to the answer to a first question."""
    log = JetStreamEventLog(bus, SERVICE)
    end = await log.last_sequence()
    started = time.perf_counter()
    model = ReadModel(path, ProgressView(), ProgressState)
    projector = Projector(bus, log, model, evolve)
    projector.start()
    await projector.reached(end, 600)
    folding = end / (time.perf_counter() - started)
    sequence, page = await model.read(listed, ListProgress())
    served = end / (time.perf_counter() - started)
    assert sequence == end
    assert page
    await projector.stop()
    model.close()
    return folding, served


def _projected(view: Projected, recorder: ApplicationRecorder) -> float:
    """Events a second from the library's notifications to its view, and a first question."""
    view.clear()
    started = time.perf_counter()
    count = view.project(recorder)
    assert view.page()
    return count / (time.perf_counter() - started)
