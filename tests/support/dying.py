"""A connection whose process dies behind any number of things that a handler sends.

The connection is a real one. What dies is the handler: nothing that it would send after its last
step goes out, and it never learns what came of that step, as after kill -9.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from penstock.contracts.subjects import Subjects
from penstock.infra.bus import Bus
from penstock.infra.nats_client import NatsClient


class Died(BaseException):
    """The process is no more; nothing may catch this."""


class Life:
    """What is left of a handler: how many more things it sends. `died` tells whether it was cut."""

    def __init__(self, sends: int) -> None:
        self.left = sends
        self.died = False

    def spend(self) -> None:
        """One more thing is sent, or the handler dies before it."""
        if self.left == 0:
            self.died = True
            raise Died
        self.left -= 1


_life: ContextVar[Life | None] = ContextVar("life", default=None)


@contextmanager
def living(sends: int) -> Iterator[Life]:
    """What runs in the block, and all tasks that it begins, dies before its next send."""
    life = Life(sends)
    token = _life.set(life)
    try:
        yield life
    finally:
        _life.reset(token)


class _MortalClient(NatsClient):
    async def publish_frames(self, frames: Sequence[bytes], largest: int) -> None:
        for frame in frames:
            if (life := _life.get()) is not None:
                life.spend()
            await super().publish_frames((frame,), largest)


class MortalBus(Bus):
    """A bus for those that `living` bounds."""

    def __init__(self, _: NatsClient, subjects: Subjects, *, timeout: float = 10.0) -> None:
        super().__init__(_MortalClient(), subjects, timeout=timeout)
