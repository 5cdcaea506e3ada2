"""What a restore leaves to be known: whether it came to its end, and what is to follow it.

The marks are in the metadata of the restored streams themselves, so that they survive whatever
dies. Never restores anything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from penstock.contracts.errors import PenstockError, StartupError
from penstock.infra.bus import Bus, StreamError
from penstock.infra.event_log import JetStreamEventLog
from penstock.infra.streams import NOT_FOUND, Config

log = logging.getLogger(__name__)

RESTORED = "penstock.restored"  # which restore a stream came from
UNSETTLED = "penstock.unsettled"  # there until its service has put right what is beside the log
FOLDED = 600.0  # seconds to wait for the view at a time
RETRY = 1.0

Reconcile = Callable[[], Awaitable[None]]
Reached = Callable[[int, float], Awaitable[None]]


def marks(restore: str) -> dict[str, str]:
    """The metadata of a stream that the restore named `restore` made."""
    return {RESTORED: restore, UNSETTLED: restore}


def marker(bus: Bus) -> Config:
    """The stream that is there while a restore goes on, and after one that was interrupted."""
    return {
        "name": bus.subjects.stream("restoring"),
        "subjects": [f"{bus.subjects.prefix}.restoring"],
        "storage": "file",
    }


async def is_interrupted(bus: Bus) -> bool:
    """Whether a restore goes on, or did not come to its end."""
    return await _metadata(bus, marker(bus)["name"]) is not None


async def refuse_interrupted(bus: Bus) -> None:
    """Raise StartupError if the streams are those of a restore that is not complete."""
    if await is_interrupted(bus):
        raise StartupError(
            "A restore of this system goes on or was interrupted: "
            "run `penstock restore DIR` to its end, then start it again."
        )


async def generation(bus: Bus) -> str:
    """The last restore's name, empty without one: what was made of an earlier log is stale."""
    return (await _metadata(bus, bus.subjects.stream("cmd")) or {}).get(RESTORED, "")


class AfterRestore:
    """A `Part`: has `reconcile` called once after a restore, when the view has caught up.

    It is called again if it fails, or if the process dies before its end: it must be idempotent.
    """

    def __init__(
        self,
        bus: Bus,
        event_log: JetStreamEventLog,
        reached: Reached,
        reconcile: Reconcile,
    ) -> None:
        self._bus = bus
        self._log = event_log
        self._reached = reached
        self._reconcile = reconcile
        self._task: asyncio.Task[None] | None = None
        self._problem: str | None = None

    async def start(self) -> None:
        """Begin, in the background."""
        self._task = asyncio.create_task(self._run(), name=f"restored-{self._log.service}")

    async def stop(self) -> None:
        """Leave the rest to the next start."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def problem(self) -> str | None:
        """Why it does not get on, or None."""
        if self._task and self._task.done() and not self._task.cancelled():
            error = self._task.exception()
            return f"what a restore left is not put right: {error}" if error else None
        return self._problem

    async def _run(self) -> None:
        while True:
            try:
                await self._settle()
            except PenstockError as error:
                self._problem = f"what a restore left is not put right yet: {error}"
                log.warning("%s: %s", self._log.service, self._problem)
                await asyncio.sleep(RETRY)
            else:
                self._problem = None
                return

    async def _settle(self) -> None:
        if UNSETTLED not in (await _metadata(self._bus, self._log.stream) or {}):
            return
        await self._reached(await self._log.last_sequence(), FOLDED)
        await self._reconcile()
        config = (await self._bus.api(f"STREAM.INFO.{self._log.stream}"))["config"]
        config["metadata"].pop(UNSETTLED, None)
        await self._bus.api(f"STREAM.UPDATE.{self._log.stream}", config)
        log.info("%s: what a restore left is put right", self._log.service)


async def _metadata(bus: Bus, stream: str) -> dict[str, str] | None:
    """A stream's metadata, or None if there is no such stream."""
    try:
        found = (await bus.api(f"STREAM.INFO.{stream}"))["config"]
    except StreamError as error:
        if error.err_code != NOT_FOUND:
            raise
        return None
    return found.get("metadata") or {}
