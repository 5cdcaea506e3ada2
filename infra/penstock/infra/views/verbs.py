"""What an operator can ask of a view: to be rebuilt and to be verified, one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from penstock.contracts.errors import Refused
from penstock.contracts.views import Rebuild, Verify
from penstock.infra.control import Step, Verb
from penstock.infra.views.live_view import LiveView
from penstock.infra.views.projector import Projector
from penstock.infra.views.read_model import ReadModel
from penstock.infra.views.rebuild import rebuild
from penstock.infra.views.refold import Refold
from penstock.infra.views.verify import verify

S = TypeVar("S")


def view_verbs(
    live: LiveView[S], projector: Projector[S], refold: Callable[[ReadModel[S]], Refold[S]]
) -> dict[str, Verb]:
    """The verbs of one instance. A second one at the same time raises Refused."""
    turn = asyncio.Lock()

    async def alone(steps: AsyncGenerator[Step, None]) -> AsyncIterator[Step]:
        if turn.locked():
            raise Refused(
                "This view is being rebuilt or verified already; ask again when that is done."
            )
        async with turn, aclosing(steps):
            async for step in steps:
                yield step

    def rebuilding(_: Any) -> AsyncIterator[Step]:
        return alone(rebuild(live, projector, refold))

    def verifying(_: Any) -> AsyncIterator[Step]:
        return alone(verify(live, projector, refold))

    return {"rebuild": Verb(Rebuild, rebuilding), "verify": Verb(Verify, verifying)}
