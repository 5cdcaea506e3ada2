"""How an aggregate of any service ends: erased by a command, or archived by one. Wiring only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from penstock.contracts.envelope import Envelope, unwrap
from penstock.contracts.lifecycle import ARCHIVE, ERASE, Archived
from penstock.infra.deciding.aggregate import Folder
from penstock.infra.deciding.decider import CarryOut
from penstock.infra.deciding.snapshots import Snapshots
from penstock.infra.endings.archiver import Archiver, Finished, Gone, whole
from penstock.infra.endings.eraser import Eraser, Remove
from penstock.infra.endings.retention import Candidates
from penstock.infra.endings.segments import Archive
from penstock.infra.event_log import JetStreamEventLog, Recorded
from penstock.infra.views.live_view import LiveView

S = TypeVar("S")


def own_commands(
    log: JetStreamEventLog,
    view: LiveView[S],
    folder: Folder[S],
    *,
    segments: Archive,
    snapshots: Snapshots[S],
    finished: Finished[S],
    remembered: float,
    removals: list[Remove],
    archived: list[Gone],
    folded: Callable[[], Awaitable[None]],
) -> dict[type[msgspec.Struct], CarryOut]:
    """The frame's own commands, by type, and what carries each out; see `Eraser`, `Archiver`."""
    archiver = Archiver(
        log,
        segments,
        folder,
        finished=finished,
        candidates=Candidates(log, view, finished, folded),
        forget=snapshots.forget,
        told=archived,
        remembered=remembered,
    )
    return {ERASE[log.service]: Eraser(log, removals), ARCHIVE[log.service]: archiver}


def from_archive(segments: Archive) -> Remove:
    """Takes what is erased out of the archive, from each of its lives."""

    async def remove(command: Envelope, records: Sequence[Recorded]) -> None:
        for data in (unwrap(record.event) for record in await whole(records, segments)):
            if isinstance(data, Archived):
                await segments.leave_out(data.segment, [command.subject])

    return remove


def never(_: object) -> None:
    """For a service whose aggregates are never finished."""
