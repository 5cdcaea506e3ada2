"""The last messages of subjects, asked for together by all who ask in one round of the event loop.

Each gets what stood in the stream at one moment, as if it had asked alone. Never remembers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from penstock.infra.bus import Bus, Stored
from penstock.infra.storing import read

SUBJECTS = 1000  # in one request; the server refuses more than 1024

_Asked = tuple[tuple[str, ...], asyncio.Future[Mapping[str, Stored]]]


class LastMessages:
    """Of one stream."""

    def __init__(self, bus: Bus, stream: str) -> None:
        self._bus = bus
        self._stream = stream
        self._asked: list[_Asked] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def of(self, *subjects: str) -> Mapping[str, Stored]:
        """The last message of each subject that has one, all of one moment. Raises as `read`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Mapping[str, Stored]] = loop.create_future()
        if not self._asked:
            loop.call_soon(self._send)
        self._asked.append((subjects, future))
        return await future

    def _send(self) -> None:
        asked, self._asked = self._asked, []
        group: list[_Asked] = []
        count = 0
        for one in asked:
            if count + len(one[0]) > SUBJECTS:
                self._begin(group)
                group, count = [], 0
            group.append(one)
            count += len(one[0])
        self._begin(group)

    def _begin(self, group: list[_Asked]) -> None:
        task = asyncio.create_task(self._answer(group), name="last-messages")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, group: list[_Asked]) -> None:
        try:
            found = await self._read(group)
        except BaseException as error:  # noqa: BLE001 - raised where they wait
            for _, future in group:
                _fail(future, error)
            return
        if found and found[-1].pending and len(group) > 1:  # too large for one answer
            half = len(group) // 2
            await asyncio.gather(self._answer(group[:half]), self._answer(group[half:]))
            return
        stored = {message.subject: message for message in found}
        for subjects, future in group:
            if not future.done():
                future.set_result({s: stored[s] for s in subjects if s in stored})

    async def _read(self, group: list[_Asked]) -> list[Stored]:
        subjects = dict.fromkeys(subject for asked, _ in group for subject in asked)
        request = {"multi_last": list(subjects)}
        return await read(self._bus, self._stream, request, timeout=self._bus.timeout)


def _fail(future: asyncio.Future[Mapping[str, Stored]], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # nobody may wait any more: that is no error of its own
