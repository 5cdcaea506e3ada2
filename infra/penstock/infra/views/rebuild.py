"""Makes a service's view anew from its log, while the present one answers. Never changes a log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar

from msgspec.structs import replace

from penstock.contracts.errors import Timeout
from penstock.contracts.views import Rebuilt
from penstock.infra.control import Step
from penstock.infra.views.live_view import LiveView, drop
from penstock.infra.views.projector import Projector
from penstock.infra.views.read_model import ReadModel
from penstock.infra.views.refold import Refold

S = TypeVar("S")
LAST_STEP = 10.0  # seconds that the live view may stand still for at the end


async def rebuild(
    live: LiveView[S], projector: Projector[S], refold: Callable[[ReadModel[S]], Refold[S]]
) -> AsyncGenerator[Step, None]:
    """Fold a new file up to where the live one is, and go over to it between two batches.

    Whoever asks meanwhile is answered, and never from before what they were told already. Killed
    at any moment, it leaves the present view or the new one, each whole. Raises Timeout if events
    come faster than they can be folded.
    """
    begun = asyncio.get_running_loop().time()
    former, fresh = live.model, live.fresh()
    try:
        async with refold(fresh) as fold:
            async for step in fold.approach(lambda: projector.sequence):
                yield step
            await _replace(live, projector, fold, fresh)
    finally:
        await drop(former if live.model is fresh else fresh)
    seconds = asyncio.get_running_loop().time() - begun
    yield replace(fold.progress(), result=_rebuilt(fold, seconds))


async def _replace(
    live: LiveView[S], projector: Projector[S], fold: Refold[S], fresh: ReadModel[S]
) -> None:
    try:
        async with asyncio.timeout(LAST_STEP), projector.paused() as end:
            while await fold.step(end):
                pass
            await live.replace(fresh)
            await projector.go_over()
    except TimeoutError as error:
        raise Timeout(
            "Events come faster than they can be folded again, so that the view stays as it is; "
            "ask again when there are fewer."
        ) from error


def _rebuilt(fold: Refold[S], seconds: float) -> Rebuilt:
    return Rebuilt(
        sequence=fold.sequence, events=fold.events, held=fold.held, seconds=round(seconds, 3)
    )
