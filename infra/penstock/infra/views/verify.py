"""Compares a service's view with what its log says, by a fold from the start. Changes neither."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from itertools import islice
from typing import TypeVar

import apsw
from msgspec.structs import replace

from penstock.contracts.views import Difference, Verified
from penstock.infra.control import Step
from penstock.infra.views.comparison import differences
from penstock.infra.views.live_view import LiveView, drop
from penstock.infra.views.projector import Projector
from penstock.infra.views.read_model import ReadModel
from penstock.infra.views.refold import Refold

S = TypeVar("S")
LOOKS = 3  # at the most; a second one only if something happened meanwhile
CATCH_UP = 10.0  # seconds that the view has for what happened meanwhile
SHOWN = 20  # differences told one by one; the others are counted

Found = tuple[int, list[Difference], int]  # aggregates, the first differences, and how many


async def verify(
    live: LiveView[S], projector: Projector[S], refold: Callable[[ReadModel[S]], Refold[S]]
) -> AsyncGenerator[Step, None]:
    """Fold into a scratch file, which is removed at the end, and compare at one sequence.

    Traffic may go on. A read transaction keeps the view as it is, and only once the fold is near:
    what is written meanwhile waits in SQLite's log, and no copy of the view is made.
    """
    begun = asyncio.get_running_loop().time()
    scratch = live.scratch()
    found: Found = (0, [], 0)
    try:
        async with refold(scratch) as fold:
            async for step in fold.approach(lambda: projector.sequence):
                yield step
            for _ in range(LOOKS):
                with live.snapshot() as (end, view):
                    while await fold.step(end):
                        yield fold.progress()
                    with scratch.snapshot() as (_, folded):
                        found = await _compare(scratch, view, folded)
                if not _differs(found) or not await _went_on(projector, fold):
                    break
    finally:
        await drop(scratch)
    seconds = asyncio.get_running_loop().time() - begun
    yield replace(fold.progress(), result=_verified(fold, found, seconds))


async def _went_on(projector: Projector[S], fold: Refold[S]) -> bool:
    """Whether the log has more than was compared, which the view then has too.

    Of what is being erased or archived the log has lost the events while the view has not heard of
    it yet: that is no difference a moment later.
    """
    end = await fold.log.last_sequence()
    if end <= fold.sequence:
        return False
    await projector.reached(end, CATCH_UP)
    return True


async def _compare(model: ReadModel[S], live: apsw.Connection, folded: apsw.Connection) -> Found:
    comparing = asyncio.ensure_future(asyncio.to_thread(_found, model, live, folded))
    try:
        return await asyncio.shield(comparing)
    except asyncio.CancelledError:
        # The thread must be done with the connections before they are closed.
        live.interrupt()
        folded.interrupt()
        await asyncio.gather(comparing, return_exceptions=True)
        raise


def _found(model: ReadModel[S], live: apsw.Connection, folded: apsw.Connection) -> Found:
    found = differences(live, folded, model.compared(folded))
    first = list(islice(found, SHOWN))
    count = len(first) + sum(1 for _ in found)
    aggregates: int = live.execute("SELECT count(*) FROM aggregate").get
    return aggregates, first, count


def _differs(found: Found) -> bool:
    return found[2] > 0


def _verified(fold: Refold[S], found: Found, seconds: float) -> Verified:
    aggregates, first, count = found
    return Verified(
        sequence=fold.sequence,
        events=fold.events,
        held=fold.held,
        aggregates=aggregates,
        count=count,
        differences=tuple(first),
        seconds=round(seconds, 3),
    )
