"""Tells the jobs service of jobs that somebody waits for, those together that come together.

Each is told of before its item is acknowledged, and may be told of twice. Never knows who waits.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from contextvars import Context, copy_context

from penstock.client.session import Session
from penstock.contracts.errors import PenstockError
from penstock.contracts.jobs import Moved, SettleJob
from penstock.contracts.jobs_bulk import MOST, SettleJobs

_Told = tuple[str, int, Moved | None, Context, asyncio.Future[None]]


class Settlements:
    """What comes while one command is on its way goes together in the next."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._waiting: deque[_Told] = deque()
        self._sending: asyncio.Task[None] | None = None

    async def tell(self, job: str, sequence: int, moved: Moved | None = None) -> None:
        """Tell of a job whose last event is at `sequence`, and is `moved` by it perhaps; it is
        stored when this returns.

        Raises as `Session.post`: tell of it again then.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, sequence, moved, copy_context(), done))
        if self._sending is None or self._sending.done():
            # Of no flow: what is told of many belongs to none.
            sending = self._send()
            self._sending = asyncio.create_task(sending, name="settlements", context=Context())
        await done

    async def _send(self) -> None:
        while self._waiting:
            told = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
            try:
                await self._post(told)
            except PenstockError as error:
                for *_, done in told:
                    if not done.done():
                        done.set_exception(error)
                continue
            for *_, done in told:
                if not done.done():
                    done.set_result(None)

    async def _post(self, told: list[_Told]) -> None:
        [(job, sequence, moved, flow, _), *more] = told
        if not more:
            command_id = f"{job}:{sequence}:settle"
            posted = self._session.post(SettleJob(moved=moved), id=job, command_id=command_id)
            await asyncio.create_task(posted, context=flow)
            return
        jobs = tuple(dict.fromkeys(job for job, *_ in told))
        what = tuple(moved for _, _, moved, *_ in told if moved is not None)
        settle = SettleJobs(jobs=jobs, moved=what)
        await self._session.post(settle, id=f"settled:{uuid.uuid4().hex}")
