"""Many jobs, enqueued as a stream: what comes out is what became of each, in order.

Holds no more than what is on its way. Never decides.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence

import msgspec

from penstock.client.session import Session, state_of
from penstock.contracts.errors import InvalidMessage, Timeout, TooLarge
from penstock.contracts.jobs import MAX_INLINE
from penstock.contracts.jobs_bulk import MOST, Enqueued, EnqueuedJobs, EnqueueJobs, JobSpec

BYTES = 1024 * 1024  # of one command's jobs, or a single job
LARGEST = MAX_INLINE + 64 * 1024
TRIES = 3  # times that the outcome of a command is asked for

Specs = Iterable[JobSpec] | AsyncIterable[JobSpec]
_encode = msgspec.json.Encoder().encode


class _Chunk:
    """Jobs that go in one command; those that cannot go at all are refused here, in their place."""

    def __init__(self) -> None:
        self.jobs: list[msgspec.Raw] = []
        self.refused: dict[int, Enqueued] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self.jobs) + len(self.refused)

    def add(self, spec: JobSpec) -> None:
        """One more, encoded."""
        try:
            job = _encoded(spec)
        except (InvalidMessage, TooLarge) as refusal:
            became = Enqueued(id=spec.id or "", problem=refusal.problem())
            self.refused[len(self)] = became
        else:
            self.jobs.append(msgspec.Raw(job))
            self.bytes += len(job)

    def became(self, answered: Sequence[Enqueued]) -> list[Enqueued]:
        """What became of all, given what was answered for those that were sent."""
        rest = iter(answered)
        return [self.refused.get(place) or next(rest) for place in range(len(self))]


def _encoded(spec: JobSpec) -> bytes:
    try:
        job = _encode(spec)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidMessage(f"The job cannot be written as JSON: {error}.") from error
    if len(job) > LARGEST:
        raise TooLarge(
            f"The job has {len(job)} bytes and one may have {LARGEST}; "
            "store its payload elsewhere and pass where."
        )
    return job


async def enqueue_many(
    session: Session, specs: Specs, *, chunk: int, in_flight: int, command_id: str | None
) -> AsyncIterator[Enqueued]:
    """See `Jobs.enqueue_many`."""
    if not 1 <= chunk <= MOST or in_flight < 1:
        raise ValueError(f"A chunk has 1 to {MOST} jobs, and at least one has to be in flight.")
    command_id = command_id or uuid.uuid4().hex
    on_their_way: deque[asyncio.Task[list[Enqueued]]] = deque()
    number = 0
    try:
        async for jobs in _chunks(specs, chunk):
            if len(on_their_way) >= in_flight:
                for enqueued in await on_their_way.popleft():
                    yield enqueued
            sent = _send(session, jobs, f"{command_id}-{number}")
            on_their_way.append(asyncio.create_task(sent, name="enqueue-many"))
            number += 1
        while on_their_way:
            for enqueued in await on_their_way.popleft():
                yield enqueued
    finally:
        for task in on_their_way:
            task.cancel()
        await asyncio.gather(*on_their_way, return_exceptions=True)


async def _chunks(specs: Specs, most: int) -> AsyncIterator[_Chunk]:
    chunk = _Chunk()
    async for spec in _each(specs):
        chunk.add(spec)
        if len(chunk) == most or chunk.bytes > BYTES:
            yield chunk
            chunk = _Chunk()
    if len(chunk):
        yield chunk


async def _each(specs: Specs) -> AsyncIterator[JobSpec]:
    if isinstance(specs, AsyncIterable):
        async for spec in specs:
            yield spec
    else:
        for spec in specs:
            yield spec


async def _send(session: Session, chunk: _Chunk, command_id: str) -> list[Enqueued]:
    """Have one command carried out. One whose outcome did not come is asked for again, by its id,
    and with twice the patience: asking costs a service that is only slow even more time.

    Raises Unavailable or Timeout, after which sending again with the same id has no second effect.
    """
    if not chunk.jobs:
        return chunk.became(())
    command = EnqueueJobs(jobs=tuple(chunk.jobs))
    for tried in range(TRIES):
        timeout = session.timeout * 2**tried
        try:
            outcome = await session.command(
                command, id=command_id, command_id=command_id, timeout=timeout
            )
        except Timeout:
            if tried == TRIES - 1:
                raise
        else:
            break
    return chunk.became(state_of(outcome, EnqueuedJobs).jobs)
