"""Which job has a unique key: a register for each key, changed only as it was read.

It is kept beside the decisions, in the stream of the events. A job reserves its key before it is
stored; one that never comes to be stored, since its enqueuer died or was refused, loses the key
after GRACE seconds. A slow enqueuer may come behind that: so the key is claimed once more before
the job is offered to anybody. Never changes a job.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from penstock.contracts.errors import Duplicate, Unavailable
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import SERVICE, YEAR, Rules
from penstock.contracts.subjects import EXPECTED, TTL
from penstock.infra.bus import Bus, Stored, StreamError
from penstock.infra.deciding.decider import Load
from penstock.infra.event_log import WRONG_LAST_SEQUENCE
from penstock.infra.storing import read
from penstock.jobs.unique_key import Holder, duplicate, holding, is_claimed, is_held

GRACE = 3.0  # seconds from the reservation until the job has to be stored
PAUSE = 0.02  # seconds between two looks whether it is
LOOKS = 50
TRIES = 10
REMEMBERED = 2 * YEAR  # seconds that a key is kept with a job that may still run


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Holder).decode


class UniqueKeys:
    """The registers of all keys."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._stream = bus.subjects.event_stream(SERVICE)

    async def reserve(self, job: str, rules: Rules, load: Load[Any]) -> Duplicate | None:
        """Give the key of `rules` to `job`, unless another has it: then the error that says so.

        Raises Unavailable while nobody can tell.
        """
        key = rules.unique_key
        assert key is not None
        for _ in range(TRIES):
            stored = await self._stored(key)
            holder = _decode(stored.data) if stored else None
            if holder is not None and holder.job == job:
                return None
            if holder is not None and (taken := await self._taken(key, holder, load)):
                return taken
            if await self._write(key, job, rules, stored.sequence if stored else 0):
                return None
        raise Unavailable(f"Others change who has the unique key {key!r} faster than it is read.")

    async def claim(self, job: JobState, load: Load[Any]) -> Duplicate | None:
        """The same for a job that is stored, while its key is to be its own."""
        if not is_claimed(job, datetime.now(UTC)):
            return None
        return await self.reserve(job.id, job.rules, load)

    async def _taken(self, key: str, holder: Holder, load: Load[Any]) -> Duplicate | None:
        """The error if `holder` keeps the key: its time is not over, or its job is not."""
        for _ in range(LOOKS):
            job = await load(holder.job)
            if job.sequence:
                break
            if datetime.now(UTC) > holder.at + timedelta(seconds=GRACE):
                return None
            await asyncio.sleep(PAUSE)
        else:
            raise Unavailable(f"The job {holder.job!r} with the unique key {key!r} is on its way.")
        if not is_held(holder, job.state, datetime.now(UTC)):
            return None
        return duplicate(key, holder, job.sequence)

    async def _stored(self, key: str) -> Stored | None:
        request = {"last_by_subj": self._subject(key)}
        found = await read(self._bus, self._stream, request, timeout=self._bus.timeout)
        return found[0] if found else None

    async def _write(self, key: str, job: str, rules: Rules, expected: int) -> bool:
        kept = int(rules.unique_for or REMEMBERED) + 1
        headers = {EXPECTED: str(expected), TTL: f"{kept}s"}
        body = _encode(holding(job, rules, datetime.now(UTC)))
        try:
            await self._bus.publish_acked(self._subject(key), body, headers)
        except StreamError as error:
            if error.err_code not in WRONG_LAST_SEQUENCE:
                raise
            return False
        return True

    def _subject(self, key: str) -> str:
        return self._bus.subjects.decision(SERVICE, f"gate:unique:{key}", "holder")
